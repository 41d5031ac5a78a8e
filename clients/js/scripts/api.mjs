import ts from "typescript";

/** Returns what is wrong with the public types in a declaration file: names without documentation, and uses of any. */
export function violations(file) {
  const program = ts.createProgram([file], { strict: true, target: ts.ScriptTarget.ES2022, lib: ["lib.es2022.d.ts", "lib.dom.d.ts", "lib.dom.iterable.d.ts"], types: [] });
  const checker = program.getTypeChecker(), found = [];
  for (const { messageText } of ts.getPreEmitDiagnostics(program)) found.push(ts.flattenDiagnosticMessageText(messageText, "\n"));

  const module = checker.getSymbolAtLocation(program.getSourceFile(file));
  for (const exported of checker.getExportsOfModule(module)) {
    const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
    document(symbol, symbol.name);
    for (const declaration of symbol.declarations ?? []) {
      findAny(declaration, symbol.name);
      for (const member of declaration.members ?? []) {
        if (ts.isPropertyDeclaration(member) && ts.isPrivateIdentifier(member.name)) continue;
        if (ts.isConstructorDeclaration(member)) {
          if (ts.getJSDocCommentsAndTags(member).length === 0) found.push(`${symbol.name}'s constructor has no documentation`);
          continue;
        }
        const child = member.name && checker.getSymbolAtLocation(member.name);
        if (child) document(child, `${symbol.name}.${child.name}`);
      }
    }
  }
  return found;

  function document(symbol, name) {
    if (symbol.getDocumentationComment(checker).length === 0) found.push(`${name} has no documentation`);
  }

  function findAny(node, name) {
    if (node.kind === ts.SyntaxKind.AnyKeyword) found.push(`${name} uses any`);
    ts.forEachChild(node, (child) => findAny(child, name));
  }
}
