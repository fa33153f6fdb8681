// go/ast's own reading of documentation comments: go run docs.go FOLDER
package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

func receiver(expression ast.Expr) string {
	switch e := expression.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

func main() {
	paths, _ := filepath.Glob(filepath.Join(os.Args[1], "*.go"))
	for _, path := range paths {
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			continue
		}
		for _, declaration := range file.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok || function.Body == nil || function.Doc == nil || strings.TrimSpace(function.Doc.Text()) == "" {
				continue
			}
			name := function.Name.Name
			if function.Recv != nil && len(function.Recv.List) > 0 {
				name = receiver(function.Recv.List[0].Type) + "." + name
			}
			line, _ := json.Marshal(map[string]string{"file": filepath.Base(path), "name": name, "doc": function.Doc.Text()})
			fmt.Println(string(line))
		}
	}
}
