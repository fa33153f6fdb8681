// javac's own reading of documentation comments (DocTrees): java Docs.java FOLDER
import com.sun.source.tree.*;
import com.sun.source.util.*;
import java.nio.file.*;
import java.util.*;
import javax.tools.*;

public class Docs {
    static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') out.append('\\').append(c);
            else if (c < 32 || c > 126) out.append(String.format("\\u%04x", (int) c));
            else out.append(c);
        }
        return out.append('"').toString();
    }

    public static void main(String[] arguments) throws Exception {
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        StandardJavaFileManager files = compiler.getStandardFileManager(null, null, null);
        List<Path> paths;
        try (var walk = Files.walk(Path.of(arguments[0]))) {
            paths = walk.filter(p -> p.toString().endsWith(".java")).sorted().toList();
        }
        for (Path path : paths) {
            try {
                JavacTask task = (JavacTask) compiler.getTask(null, files, d -> {}, List.of("-proc:none"), null, files.getJavaFileObjects(path));
                DocTrees trees = DocTrees.instance(task);
                for (CompilationUnitTree unit : task.parse()) {
                    new TreePathScanner<Void, Void>() {
                        @Override
                        public Void visitMethod(MethodTree method, Void nothing) {
                            String name = method.getName().toString();
                            if (name.equals("<init>")) {
                                for (Tree above : getCurrentPath())
                                    if (above instanceof ClassTree c) { name = c.getSimpleName().toString(); break; }
                            }
                            String text = trees.getDocComment(getCurrentPath());
                            if (text != null && method.getBody() != null) {
                                var doc = trees.getDocCommentTree(getCurrentPath());
                                StringBuilder body = new StringBuilder();
                                if (doc != null) for (var part : doc.getFullBody()) body.append(part).append(' ');
                                System.out.println("{\"file\": " + quoted(path.getFileName().toString()) + ", \"name\": " + quoted(name)
                                    + ", \"doc\": " + quoted(body.toString()) + "}");
                            }
                            return super.visitMethod(method, nothing);
                        }
                    }.scan(unit, null);
                }
            } catch (Exception | StackOverflowError error) {
                System.err.println(path + ": " + error);
            }
        }
    }
}
