// The functions with a body of a folder's Swift or Kotlin files as PMD's ANTLR grammars read them, and the comment before each, a
// line of JSON each, "doc" null where there is none: java -cp "$PMD_HOME/lib/*" Functions.java LANGUAGE FOLDER
import java.nio.file.*;
import java.util.*;
import net.sourceforge.pmd.lang.*;
import net.sourceforge.pmd.lang.ast.*;
import net.sourceforge.pmd.lang.document.*;

public class Functions {
    // kind of node -> the children that name it, or the name that all of them have
    static final Map<String, String> FUNCTIONS = Map.of(
        "FunctionDeclaration", "FunctionName SimpleIdentifier", "InitializerDeclaration", "init",
        "DeinitializerDeclaration", "deinit", "SecondaryConstructor", "constructor");
    static final Set<String> BODIES = Set.of("FunctionBody", "InitializerBody", "CodeBlock", "Block");

    static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') out.append('\\').append(c);
            else if (c < 32 || c > 126) out.append(String.format("\\u%04x", (int) c));
            else out.append(c);
        }
        return out.append('"').toString();
    }

    static String textOf(Node node, String source) {
        return source.substring(node.getTextRegion().getStartOffset(), node.getTextRegion().getEndOffset());
    }

    static int lineOf(Node node, String word) {
        if (node.getXPathNodeName().equalsIgnoreCase(word)) return node.getBeginLine();
        for (Node child : node.children()) {
            int line = lineOf(child, word);
            if (line > 0) return line;
        }
        return 0;
    }

    /** The documenting comments that end at `end`, nothing but blanks and other comments behind them; of blocks the nearest. */
    static String before(String source, int end) {
        Deque<String> lines = new ArrayDeque<>();
        while (true) {
            String head = source.substring(0, end).stripTrailing();
            int start;
            if (head.endsWith("*/")) {
                start = head.lastIndexOf("/*");
                String comment = head.substring(start);
                if (comment.startsWith("/**") && comment.length() > 4 && lines.isEmpty())
                    return comment.substring(3, comment.length() - 2).replaceAll("(?m)^[ \\t]*\\*", "").strip();
            } else {
                start = head.lastIndexOf('\n') + 1;
                String line = head.substring(start).strip();
                if (!line.startsWith("//")) break;
                if (line.startsWith("///") && !line.startsWith("////")) lines.addFirst(line.substring(3));
                else if (!lines.isEmpty()) break;
            }
            end = start;
        }
        return lines.isEmpty() ? null : String.join("\n", lines);
    }

    static void walk(Node node, String source, Path path) {
        String kind = node.getXPathNodeName(), names = FUNCTIONS.get(kind), name = names;
        boolean body = false;
        int line = 0;
        if (names != null) {
            for (Node child : node.children()) {
                if (names.contains(child.getXPathNodeName()) && name.equals(names)) {
                    name = textOf(child, source);
                    line = child.getBeginLine();
                }
                body |= BODIES.contains(child.getXPathNodeName());
            }
            if (line == 0) line = lineOf(node, "T-" + names);
        }
        if (body) {
            String doc = before(source, node.getTextRegion().getStartOffset());
            System.out.println("{\"file\": " + quoted(path.getFileName().toString()) + ", \"name\": " + quoted(name)
                + ", \"line\": " + line + ", \"doc\": " + (doc == null ? "null" : quoted(doc)) + "}");
        }
        for (Node child : node.children()) walk(child, source, path);
    }

    public static void main(String[] arguments) throws Exception {
        Language language = LanguageRegistry.PMD.getLanguageById(arguments[0]);
        List<Path> paths;
        try (var files = Files.list(Path.of(arguments[1]))) { paths = files.sorted().toList(); }
        try (LanguageProcessorRegistry all = LanguageProcessorRegistry.singleton(((PmdCapableLanguage) language).createProcessor(language.newPropertyBundle()))) {
            for (Path path : paths) {
                String source = Files.readString(path).replace("\r\n", "\n");
                try (TextDocument document = TextDocument.readOnlyString(source, FileId.fromPath(path), language.getDefaultVersion())) {
                    Parser.ParserTask task = new Parser.ParserTask(document, SemanticErrorReporter.noop(), all);
                    walk(all.getProcessor(language).services().getParser().parse(task), source, path);
                } catch (FileAnalysisException | StackOverflowError error) {
                    System.out.println("{\"file\": " + quoted(path.getFileName().toString()) + ", \"unread\": true}");
                }
            }
        }
    }
}
