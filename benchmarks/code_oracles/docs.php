<?php
// nikic/php-parser's getDocComment(): php docs.php FOLDER, with php-parser on the include path
require_once stream_resolve_include_path('PhpParser/autoload.php') ?: 'vendor/autoload.php';

use PhpParser\Node;
use PhpParser\NodeTraverser;
use PhpParser\NodeVisitorAbstract;
use PhpParser\ParserFactory;

$parser = (new ParserFactory())->create(ParserFactory::PREFER_PHP7);
foreach (glob($argv[1] . '/*.php') as $path) {
    try {
        $tree = $parser->parse(file_get_contents($path));
    } catch (PhpParser\Error $error) {
        continue;
    }
    $visitor = new class extends NodeVisitorAbstract {
        public string $file = '';

        public function enterNode(Node $node)
        {
            $function = $node instanceof Node\Stmt\Function_ || $node instanceof Node\Stmt\ClassMethod;
            if ($function && $node->stmts !== null && $node->getDocComment() !== null) {
                $doc = ['file' => $this->file, 'name' => $node->name->toString(), 'doc' => $node->getDocComment()->getText()];
                echo json_encode($doc, JSON_INVALID_UTF8_SUBSTITUTE), "\n";
            }
        }
    };
    $visitor->file = basename($path);
    $traverser = new NodeTraverser();
    $traverser->addVisitor($visitor);
    $traverser->traverse($tree);
}
