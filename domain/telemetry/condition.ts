// When a rule is on: what may be said of a device's readings and of its silence, and what of it is true as readings come.
import { type Static, Type } from 'typebox'
import { oneOf } from '../kernel/index.ts'

const closed = { additionalProperties: false }
const limits = {
  above: Type.Optional(Type.Number({ description: 'On above this' })),
  below: Type.Optional(Type.Number({ description: 'On below this' })),
  hysteresis: Type.Optional(Type.Number({ minimum: 0, default: 0, description: 'Off again once it is inside by so much' })),
  for_seconds: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 604_800,
      default: 0,
      description: 'On once it has been so for so long, by the times of the readings',
    }),
  ),
}
const metric = Type.String({ minLength: 1, maxLength: 64, examples: ['temperature'] })

const Threshold = Type.Object(
  { kind: oneOf(['threshold']), metric, ...limits },
  { ...closed, description: 'A value above or below something' },
)
const Change = Type.Object(
  {
    kind: oneOf(['change']),
    metric,
    within_seconds: Type.Integer({ minimum: 1, maximum: 86_400, description: 'Against the oldest reading that is not older than this' }),
    ...limits,
  },
  { ...closed, description: 'How much a value has risen (or, below zero, fallen) within some time' },
)
const Silence = Type.Object(
  { kind: oneOf(['silence']), seconds: Type.Integer({ minimum: 30, maximum: 2_592_000 }) },
  { ...closed, description: 'Nothing was heard of the device for so long' },
)
const Leaf = Type.Union([Threshold, Change, Silence])
const leaves = Type.Array(Leaf, { minItems: 1, maxItems: 10 })
const Part = Type.Union([Leaf, Type.Object({ all: leaves }, closed), Type.Object({ any: leaves }, closed)])

/** What makes a rule raise its alert: one thing, all or any of some, or all or any of such. */
export const Condition = Type.Union(
  [
    Leaf,
    Type.Object({ all: Type.Array(Part, { minItems: 1, maxItems: 10 }) }, { ...closed, description: 'All of them at once' }),
    Type.Object({ any: Type.Array(Part, { minItems: 1, maxItems: 10 }) }, { ...closed, description: 'At least one of them' }),
  ],
  { examples: [{ kind: 'threshold', metric: 'temperature', above: 30, hysteresis: 1, for_seconds: 300 }] },
)
export type Leaf = Static<typeof Leaf>
type Tree = Leaf | { all: Tree[] } | { any: Tree[] }
export type Condition = Static<typeof Condition>

const isLeaf = (tree: Tree): tree is Leaf => 'kind' in tree
/** The things that a condition is made of, in the order in which their states are kept. */
export const leavesOf = (tree: Tree): Leaf[] => (isLeaf(tree) ? [tree] : ('all' in tree ? tree.all : tree.any).flatMap(leavesOf))

/** What is true of one thing that a condition is made of. */
export interface LeafState {
  /** Since when it has been so, in milliseconds since 1970; null while it is not. */
  since: number | null
  /** Whether it has been so for as long as it must. */
  on: boolean
}
export const OFF: LeafState = { since: null, on: false }

/** Whether a number is outside of its limits; once the leaf is on, they are narrower by the hysteresis. */
function isOutside(
  { above, below, hysteresis = 0 }: Static<typeof Threshold> | Static<typeof Change>,
  value: number,
  on: boolean,
): boolean {
  const margin = on ? hysteresis : 0
  return (above !== undefined && value > above - margin) || (below !== undefined && value < below + margin)
}

/** What becomes of a leaf's state with a number that was read at a moment. */
export function after(leaf: Exclude<Leaf, { kind: 'silence' }>, state: LeafState, at: number, value: number): LeafState {
  if (!isOutside(leaf, value, state.on)) return OFF
  const since = state.since ?? at
  return { since, on: state.on || at - since >= (leaf.for_seconds ?? 0) * 1000 }
}

/** Since when a condition has been on, by its leaves, in milliseconds since 1970; infinity while it is not. */
export function onSince(condition: Condition, states: readonly LeafState[]): number {
  let next = 0
  const walk = (tree: Tree): number => {
    if (isLeaf(tree)) {
      const { on, since } = states[next++]!
      const wait = tree.kind === 'silence' ? 0 : (tree.for_seconds ?? 0) * 1000
      return on ? (since ?? 0) + wait : Number.POSITIVE_INFINITY
    }
    const parts = ('all' in tree ? tree.all : tree.any).map(walk)
    return 'all' in tree ? Math.max(...parts) : Math.min(...parts)
  }
  return walk(condition as Tree)
}

/** Whether a condition is on, by the states of its leaves. */
export function isOn(condition: Condition, states: readonly LeafState[]): boolean {
  let next = 0
  const walk = (tree: Tree): boolean => {
    if (isLeaf(tree)) return states[next++]!.on
    // Every part is walked, so that each leaf finds its own state.
    const parts = ('all' in tree ? tree.all : tree.any).map(walk)
    return 'all' in tree ? parts.every(Boolean) : parts.some(Boolean)
  }
  return walk(condition as Tree)
}
