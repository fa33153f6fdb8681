// The documented methods of a folder's Scala files as scalameta's parser reads them (npm install scalameta-parsers), a
// line of JSON each; a comment documents what its end is before, with nothing but blanks and other comments between.
const fs = require("fs");
const path = require("path");
const { parseSource } = require("scalameta-parsers");

const COMMENT = /\/\*[\s\S]*?\*\/|\/\/[^\n]*/y;

function before(text, start) {
  let found = null;
  for (let at = 0; at < start; ) {
    COMMENT.lastIndex = at;
    const comment = COMMENT.exec(text);
    if (comment) {
      at = COMMENT.lastIndex;
      if (/^\/\*\*(?!\/)/.test(comment[0])) found = comment[0];
    } else {
      if (!/\s/.test(text[at])) found = null;
      at += 1;
    }
  }
  return found;
}

function walk(node, file, text) {
  if (Array.isArray(node)) return node.forEach((one) => walk(one, file, text));
  if (!node || typeof node !== "object") return;
  if (node.type === "Defn.Def") {
    const comment = before(text, node.pos.start);
    const doc = comment && comment.slice(3, -2).replace(/^[ \t]*\*/gm, "").trim();
    if (doc) console.log(JSON.stringify({ file, name: node.name.value, doc }));
    return; // what stands inside of it is not looked at
  }
  for (const [key, value] of Object.entries(node)) if (key !== "pos") walk(value, file, text);
}

for (const file of fs.readdirSync(process.argv[2])) {
  const text = fs.readFileSync(path.join(process.argv[2], file), "utf8");
  const tree = ["Scala213", "Scala3"].map((dialect) => parseSource(text, { dialect })).find((one) => !one.error);
  if (tree) walk(tree, file, text);
}
