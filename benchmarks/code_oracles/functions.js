// The functions with a body of a folder's TypeScript files as TypeScript's own compiler reads them (npm install typescript), and
// the JSDoc comment that it hangs on each, a line of JSON each, "doc" null where there is none.
const fs = require("fs");
const path = require("path");
const ts = require("typescript");

// What a call takes, and how a function without a name of its own is called.
function nameOf(node) {
  if (ts.isConstructorDeclaration(node)) return "constructor";
  let named = node;
  while (named && !named.name && !(ts.isBinaryExpression(named) && named.right !== node)) {
    const parent = named.parent;
    if (ts.isExportAssignment(parent)) return "default";
    if (ts.isBinaryExpression(parent) && parent.operatorToken.kind === ts.SyntaxKind.EqualsToken && parent.right === named) {
      return parent.left.getText().split(".").pop();
    }
    const through = [ts.isParenthesizedExpression, ts.isAsExpression, ts.isSatisfiesExpression, ts.isNonNullExpression];
    const holds = [ts.isVariableDeclaration, ts.isPropertyAssignment, ts.isPropertyDeclaration];
    if (!through.some((is) => is(parent)) && !holds.some((is) => is(parent))) return "";
    named = parent;
  }
  return named && named.name ? named.name.getText().replace(/^["']|["']$/g, "") : "";
}

function walk(node, file, tree) {
  if (ts.isFunctionLike(node) && node.body) {
    const name = nameOf(node);
    const hung = name ? ts.getJSDocCommentsAndTags(node).filter(ts.isJSDoc) : [];
    const text = hung.length ? hung[hung.length - 1].getText().slice(3, -2).replace(/^[ \t]*\*/gm, "").trim() : "";
    const line = tree.getLineAndCharacterOfPosition((node.name || node).getStart()).line + 1;
    console.log(JSON.stringify({ file, name, line, doc: text || null }));
  }
  ts.forEachChild(node, (child) => walk(child, file, tree));
}

for (const file of fs.readdirSync(process.argv[2])) {
  const text = fs.readFileSync(path.join(process.argv[2], file), "utf8");
  const tree = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  if (tree.parseDiagnostics.length) console.log(JSON.stringify({ file, unread: true }));
  else walk(tree, file, tree);
}
