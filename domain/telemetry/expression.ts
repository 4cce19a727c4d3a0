// Expressions over metrics: read by acorn's parser, reduced to a small grammar, and written as SQL in which every number and
// every reading is a parameter or a column.
import { type CallExpression, type Expression as Node, parse } from 'acorn'
import { type Fragment, failure, sql } from '../kernel/index.ts'

export const MAX_EXPRESSION = 500
const MAX_INPUTS = 8
const MAX_DEPTH = 20
/** Largest and, but for 0, smallest number: the product and the quotient of two results stay within double precision. */
const [MAX_NUMBER, MIN_NUMBER] = [1e100, 1e-100]

type Numeric =
  | { kind: 'number'; value: number }
  | { kind: 'metric'; code: string }
  | { kind: 'call'; name: Operation; args: readonly Numeric[] }
  | { kind: 'if'; condition: Condition; met: Numeric; otherwise: Numeric }
type Condition =
  | { kind: 'compare'; operator: Comparison; left: Numeric; right: Numeric }
  | { kind: 'and' | 'or'; left: Condition; right: Condition }

/** A result that is out of range is null: no point. */
const inRange = (value: Fragment): Fragment => sql.fragment`plane.in_range(${value})`
const folded = (name: string, args: readonly Fragment[]): Fragment =>
  args.reduce((left, right) => sql.fragment`${sql.identifier(['plane', name])}(${left}, ${right})`)

/** How operators and functions are written as SQL. Each takes its arguments once, so that nesting never multiplies them. */
const OPERATIONS = {
  add: ([a, b]) => inRange(sql.fragment`${a!} + ${b!}`),
  subtract: ([a, b]) => inRange(sql.fragment`${a!} - ${b!}`),
  multiply: ([a, b]) => inRange(sql.fragment`${a!} * ${b!}`),
  divide: ([a, b]) => inRange(sql.fragment`${a!} / nullif(${b!}, 0)`),
  negate: ([a]) => sql.fragment`(- ${a!})`,
  power: ([a, b]) => sql.fragment`plane.power_or_null(${a!}, ${b!})`,
  abs: ([a]) => sql.fragment`abs(${a!})`,
  sqrt: ([a]) => sql.fragment`plane.sqrt_or_null(${a!})`,
  exp: ([a]) => sql.fragment`plane.exp_or_null(${a!})`,
  ln: ([a]) => sql.fragment`plane.ln_or_null(${a!})`,
  log10: ([a]) => sql.fragment`plane.log10_or_null(${a!})`,
  round: ([a]) => sql.fragment`round(${a!})`,
  min: (args) => folded('least_or_null', args),
  max: (args) => folded('greatest_or_null', args),
} satisfies Record<string, (args: readonly Fragment[]) => Fragment>
type Operation = keyof typeof OPERATIONS

const BINARY: Readonly<Record<string, Operation>> = { '+': 'add', '-': 'subtract', '*': 'multiply', '/': 'divide', '**': 'power' }
/** Functions by the names that expressions use, with how many arguments they take. */
const FUNCTIONS: Readonly<Record<string, readonly [name: Operation, least: number, most: number]>> = {
  abs: ['abs', 1, 1],
  sqrt: ['sqrt', 1, 1],
  exp: ['exp', 1, 1],
  ln: ['ln', 1, 1],
  log10: ['log10', 1, 1],
  round: ['round', 1, 1],
  min: ['min', 2, 8],
  max: ['max', 2, 8],
}
const COMPARISONS = {
  '<': sql.fragment`<`,
  '<=': sql.fragment`<=`,
  '>': sql.fragment`>`,
  '>=': sql.fragment`>=`,
  '==': sql.fragment`=`,
  '!=': sql.fragment`<>`,
}
type Comparison = keyof typeof COMPARISONS

export interface Expression {
  /** The codes of the metrics that it names, each once, in alphabetical order. */
  inputs: readonly string[]
  /** As SQL of double precision, null where it has no value. @param input the column of a metric */
  toSql(input: (code: string) => Fragment): Fragment
}

const refusal = (rule: string, message: string) => failure('invalid_value', { path: '/expression', rule, message })
const syntax = (message: string) => refusal('syntax', message)

const QUOTED = /'[^']*'|"[^"]*"/g

/** The name that `if(…)` has for acorn, for which `if` is a keyword; a `$` outside of quotes is refused. */
const IF = '$$'

/** `^` and `if(` in the words of acorn, but for those in quotes; and at which places the text has grown by one character. */
function translated(text: string): { source: string; grown: number[] } {
  const grown: number[] = []
  const source = text.replace(/'[^']*'|"[^"]*"|\^|\bif(?=\s*\()/g, (found, place: number) => {
    if (found === '^') {
      grown.push(place)
      return '**'
    }
    return found === 'if' ? IF : found
  })
  return { source, grown }
}

/** Parses an expression. Throws `invalid_value` with what is wrong. */
export function parseExpression(text: string): Expression {
  if (text.length > MAX_EXPRESSION) throw refusal('length', `has at most ${MAX_EXPRESSION} characters`)
  // What acorn would read as JavaScript: comments, templates, escapes, further statements.
  if (/[\\`]/.test(text) || /[;$]|\/[/*]|\*\*/.test(text.replace(QUOTED, "''"))) throw syntax('has a character that no expression has')
  const { source, grown } = translated(text)
  let parsed: Node
  try {
    const [statement, ...others] = parse(`(${source}\n)`, { ecmaVersion: 2020 }).body
    if (statement?.type !== 'ExpressionStatement' || others.length > 0) throw syntax('is not one expression')
    parsed = statement.expression
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    const { pos = 1 } = error as SyntaxError & { pos?: number }
    const place = pos - 1
    const before = grown.filter((at, index) => at + index < place).length
    throw syntax(`cannot be read at character ${Math.min(place - before, text.length) + 1}; a power of a negative number needs parentheses`)
  }
  const codes = new Set<string>()
  const tree = numericOf(parsed, 1, codes)
  if (codes.size === 0) throw refusal('inputs', 'names no metric')
  if (codes.size > MAX_INPUTS) throw refusal('inputs', `names at most ${MAX_INPUTS} metrics`)
  return { inputs: [...codes].sort(), toSql: (input) => numericSql(tree, input) }
}

function requireDepth(depth: number): void {
  if (depth > MAX_DEPTH) throw refusal('depth', `is nested at most ${MAX_DEPTH} deep`)
}

/** @param codes takes the metrics that are named */
function numericOf(node: Node, depth: number, codes: Set<string>): Numeric {
  requireDepth(depth)
  const inner = (child: Node) => numericOf(child, depth + 1, codes)
  switch (node.type) {
    case 'Literal':
      if (typeof node.value === 'number') return { kind: 'number', value: numberOf(node.value) }
      if (typeof node.value === 'string') return metricOf(node.value, codes)
      throw syntax('is made of numbers, metrics, operators and functions')
    case 'Identifier':
      return metricOf(node.name, codes)
    case 'MemberExpression':
      return metricOf(dotted(node), codes)
    case 'UnaryExpression':
      if (node.operator === '-') return { kind: 'call', name: 'negate', args: [inner(node.argument)] }
      if (node.operator === '+') return inner(node.argument)
      throw syntax(`has the unknown operator ${node.operator}`)
    case 'BinaryExpression': {
      const name = Object.hasOwn(BINARY, node.operator) ? BINARY[node.operator]! : undefined
      if (!name) throw syntax(`has ${node.operator} where a number is needed`)
      return { kind: 'call', name, args: [inner(node.left as Node), inner(node.right)] }
    }
    case 'CallExpression':
      return callOf(node, depth, codes)
    default:
      throw syntax('is made of numbers, metrics, operators and functions')
  }
}

function callOf(node: CallExpression, depth: number, codes: Set<string>): Numeric {
  const name = node.callee.type === 'Identifier' ? node.callee.name : ''
  const args = node.arguments.map((argument) => {
    if (argument.type === 'SpreadElement') throw syntax('has an argument that is no number')
    return argument
  })
  const inner = (child: Node) => numericOf(child, depth + 1, codes)
  if (name === IF) {
    const [condition, met, otherwise] = args
    if (args.length !== 3) throw syntax('has an if without condition, value and other value')
    return { kind: 'if', condition: conditionOf(condition!, depth + 1, codes), met: inner(met!), otherwise: inner(otherwise!) }
  }
  if (node.optional || !Object.hasOwn(FUNCTIONS, name))
    throw syntax(`calls a function that is none of if, ${Object.keys(FUNCTIONS).join(', ')}`)
  const [operation, least, most] = FUNCTIONS[name]!
  if (args.length < least || args.length > most)
    throw syntax(`calls ${name} with ${args.length} arguments instead of ${least === most ? least : `${least} to ${most}`}`)
  return { kind: 'call', name: operation, args: args.map(inner) }
}

function conditionOf(node: Node, depth: number, codes: Set<string>): Condition {
  requireDepth(depth)
  if (node.type === 'LogicalExpression' && node.operator !== '??') {
    const kind = node.operator === '&&' ? 'and' : 'or'
    return { kind, left: conditionOf(node.left, depth + 1, codes), right: conditionOf(node.right, depth + 1, codes) }
  }
  if (node.type !== 'BinaryExpression' || !Object.hasOwn(COMPARISONS, node.operator))
    throw syntax(`has an if whose condition is none of ${Object.keys(COMPARISONS).join(' ')}`)
  return {
    kind: 'compare',
    operator: node.operator as Comparison,
    left: numericOf(node.left as Node, depth + 1, codes),
    right: numericOf(node.right, depth + 1, codes),
  }
}

function numberOf(value: number): number {
  if (value !== 0 && !(Math.abs(value) <= MAX_NUMBER && Math.abs(value) >= MIN_NUMBER))
    throw refusal('number', `has numbers between ${MIN_NUMBER} and ${MAX_NUMBER}`)
  return value
}

function metricOf(code: string, codes: Set<string>): Numeric {
  if (code.length === 0 || code.length > 64) throw syntax('names a metric of 1 to 64 characters')
  codes.add(code)
  return { kind: 'metric', code }
}

/** `air.temperature`, a metric with dots in its code. */
function dotted(node: Node): string {
  if (node.type === 'Identifier') return node.name
  if (node.type === 'MemberExpression' && !node.computed && !node.optional && node.property.type === 'Identifier')
    return `${dotted(node.object as Node)}.${node.property.name}`
  throw syntax('names a metric that needs quotes')
}

function numericSql(tree: Numeric, input: (code: string) => Fragment): Fragment {
  switch (tree.kind) {
    case 'number':
      return sql.fragment`${tree.value}::float8`
    case 'metric':
      return input(tree.code)
    case 'call':
      return OPERATIONS[tree.name](tree.args.map((argument) => numericSql(argument, input)))
    case 'if':
      // Neither branch where the condition has no value.
      return sql.fragment`
        case ${conditionSql(tree.condition, input)} when true then ${numericSql(tree.met, input)} when false then ${numericSql(tree.otherwise, input)} end`
  }
}

function conditionSql(tree: Condition, input: (code: string) => Fragment): Fragment {
  if (tree.kind === 'compare')
    return sql.fragment`(${numericSql(tree.left, input)} ${COMPARISONS[tree.operator]} ${numericSql(tree.right, input)})`
  const [left, right] = [conditionSql(tree.left, input), conditionSql(tree.right, input)]
  return tree.kind === 'and' ? sql.fragment`(${left} and ${right})` : sql.fragment`(${left} or ${right})`
}
