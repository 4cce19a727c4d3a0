// What a governed script may be, read from its syntax tree.
import { stripTypeScriptTypes } from 'node:module'
import path from 'node:path'
import { type Node, parse } from 'acorn'

/** What opens a connection of its own: what it writes would stay after a dry run. */
const CONNECTING =
  /^(pg|slonik|pg-boss|ioredis|node-rdkafka|@aws-sdk\/.*|node:(net|tls|http|https|http2|child_process|worker_threads)|undici)$/
const CONNECTING_NAMES = new Set(['Database', 'Listener', 'OwnDatabases', 'createRuntime', 'Client', 'Pool'])

/** Functions of the kernel that make a schema of what they are given. */
const SCHEMAS = new Set(['oneOf', 'nullable'])

// biome-ignore lint/suspicious/noExplicitAny: a tree of any node
type Tree = Node & Record<string, any>

/** Whether evaluating an expression at import does nothing but make a value: literals, functions, schemas, SQL. */
function isInert(node: Tree | null | undefined): boolean {
  if (!node) return true
  switch (node.type) {
    case 'Literal':
    case 'Identifier':
    case 'ArrowFunctionExpression':
    case 'FunctionExpression':
      return true
    case 'TemplateLiteral':
      return node.expressions.every(isInert)
    case 'TaggedTemplateExpression':
      return isMemberOf(node.tag, 'sql') && node.quasi.expressions.every(isInert)
    case 'CallExpression':
      return (isMemberOf(node.callee, 'Type') || SCHEMAS.has(node.callee.name)) && node.arguments.every(isInert)
    case 'NewExpression':
      return ['Set', 'Map'].includes(node.callee.name) && node.arguments.every(isInert)
    case 'ArrayExpression':
      return node.elements.every(isInert)
    case 'ObjectExpression':
      return node.properties.every((property: Tree) =>
        property.type === 'SpreadElement'
          ? isInert(property.argument)
          : isInert(property.value) && (!property.computed || isInert(property.key)),
      )
    case 'SpreadElement':
      return isInert(node.argument)
    case 'MemberExpression':
      return isInert(node.object) && (!node.computed || isInert(node.property))
    case 'UnaryExpression':
      return node.operator !== 'delete' && isInert(node.argument)
    case 'BinaryExpression':
    case 'LogicalExpression':
      return isInert(node.left) && isInert(node.right)
    case 'ConditionalExpression':
      return isInert(node.test) && isInert(node.consequent) && isInert(node.alternate)
    default:
      return false
  }
}

/** `Type.Object`, `sql.fragment`, and `sql.type(Row)`. */
function isMemberOf(node: Tree, name: string): boolean {
  if (node.type === 'CallExpression') return isMemberOf(node.callee, name) && node.arguments.every(isInert)
  return node.type === 'MemberExpression' && node.object.type === 'Identifier' && node.object.name === name
}

function* nodesOf(node: unknown): Generator<Tree> {
  if (Array.isArray(node)) for (const item of node) yield* nodesOf(item)
  else if (node && typeof node === 'object') {
    if (typeof (node as Tree).type === 'string') yield node as Tree
    for (const value of Object.values(node)) yield* nodesOf(value)
  }
}

const definitionOf = (node: Tree): Tree | null => {
  const { type, callee, arguments: given } = node.declaration as Tree
  return type === 'CallExpression' && callee.name === 'defineScript' && given.length === 1 && given[0].type === 'ObjectExpression'
    ? given[0]
    : null
}

/**
 * A script is defined and does nothing by being imported: at its top level there are imports, constants and functions only.
 * Its name is that of its file, and all that it reads and writes goes through the queries that it is given.
 */
export function scriptViolations(file: string, text: string): string[] {
  const source = stripTypeScriptTypes(text)
  const tree = parse(source, { ecmaVersion: 'latest', sourceType: 'module' }) as Tree
  const violations: string[] = []
  const shown = (node: Tree) => source.slice(node.start, node.end).split('\n')[0]!.trim().slice(0, 60)
  const runs = (node: Tree) => violations.push(`${file} runs code when it is imported: ${shown(node)}`)
  let definition: Tree | null = null
  for (const node of tree.body as Tree[]) {
    if (node.type === 'ImportDeclaration') {
      if (node.specifiers.length === 0) runs(node)
      const names = node.specifiers.flatMap((one: Tree) => (one.type === 'ImportSpecifier' ? one.imported.name : []))
      const connecting = names.find((name: string) => CONNECTING_NAMES.has(name))
      if (CONNECTING.test(node.source.value) || connecting)
        violations.push(
          `${file} imports ${connecting ?? node.source.value}: a script has the queries that it is given, and no connection of its own`,
        )
    } else if (node.type === 'ExportDefaultDeclaration') {
      definition = definitionOf(node)
      if (definition && !isInert(definition)) runs(node)
    } else if (node.type === 'VariableDeclaration') {
      if (node.kind !== 'const' || !node.declarations.every((one: Tree) => isInert(one.init))) runs(node)
    } else if (node.type !== 'FunctionDeclaration') runs(node)
  }
  if (!definition) violations.push(`${file}: a script default-exports defineScript({ … })`)
  const name = definition?.properties.find((property: Tree) => property.key?.name === 'name')?.value
  const expected = path.basename(file, '.ts')
  if (definition && name?.value !== expected) violations.push(`${file}: its name is '${name?.value}' and not '${expected}'`)
  for (const node of nodesOf(tree)) if (node.type === 'ImportExpression') violations.push(`${file} imports at run time: ${shown(node)}`)
  return violations
}
