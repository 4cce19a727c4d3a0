// Derived metrics: computed from other metrics of the same device when they are asked for.
import { type Static, Type } from 'typebox'
import { failure, nullable, oneAtATime, resource, row, sql, type Tx } from '../kernel/index.ts'
import { derivedCodes, MAX_DERIVED } from './derived-codes.ts'
import { MAX_EXPRESSION, parseExpression } from './expression.ts'
import { Metric, metricsLock } from './profile.ts'

export const DerivedMetric = row(
  'tel_derived_metric',
  {
    code: { ...Metric.properties.code, description: 'Of no metric, and no input of another derived metric', examples: ['vpd'] },
    unit: nullable(Type.String({ minLength: 1, maxLength: 32, examples: ['kPa'] })),
    expression: Type.String({
      minLength: 1,
      maxLength: MAX_EXPRESSION,
      description:
        'Over metrics of the same device: numbers, metric codes (in quotes unless they are words), + - * / ^, parentheses, abs, sqrt, exp, ln, log10, round, min, max, and if(condition, value, other) with < <= > >= == != && ||',
      examples: ['0.6108*exp(17.27*temperature/(temperature+237.3))*(1-humidity/100)'],
    }),
    max_age_seconds: Type.Integer({
      minimum: 0,
      maximum: 86_400,
      default: 0,
      description: 'How old the latest reading of an input may be where it has none of the same time; 0: all inputs have one',
    }),
  },
  { scope: 'tenant' },
)

const Code = Type.Object({ code: Type.String() }, { additionalProperties: false })
type Draft = Static<typeof Code> & { id: string; expression: string }

/**
 * Refuses with `already_exists` the code of a metric; with `invalid_value` expressions that cannot be read, derived metrics
 * over derived ones, and too many. Exact under concurrency: decided under `metricsLock`, which whoever makes metrics takes too.
 */
async function check(tx: Tx, rows: readonly Record<string, unknown>[]): Promise<void> {
  const drafts = rows as unknown as readonly Draft[]
  const refuse = (path: string, rule: string, message: string) => failure('invalid_value', { path, rule, message })
  const parsed = drafts.map(({ code, expression }) => ({ code, inputs: parseExpression(expression).inputs }))
  await oneAtATime(tx, metricsLock(tx))
  const changed = new Set(drafts.map(({ id }) => id))
  const others = (await derivedCodes(tx)).filter(({ id }) => !changed.has(id))
  if (others.length + drafts.length > MAX_DERIVED) throw refuse('/code', 'derived_metrics', `Derived metrics are at most ${MAX_DERIVED}`)
  const all = [...others.map(({ code, expression }) => ({ code, inputs: parseExpression(expression).inputs })), ...parsed]
  const codes = new Set(all.map(({ code }) => code))
  for (const { code, inputs } of all) {
    const derived = inputs.find((input) => codes.has(input))
    if (derived !== undefined)
      throw refuse('/expression', 'derived', `of ${code} names ${derived}, which is derived itself: write its expression out`)
  }
  const metric = await tx.maybeOne(sql.prepared(Code)`
    select code from tel_metric
    where tenant_id = ${tx.tenantId} and code = any(${sql.array(
      parsed.map(({ code }) => code),
      'text',
    )}) order by code limit 1`)
  if (metric) throw failure('already_exists', { path: '/code', code: metric.code }, `${metric.code} is the code of a metric.`)
}

export const derivedMetrics = resource(DerivedMetric, {
  module: 'telemetry.devices',
  permission: 'telemetry.derived_metric',
  filter: ['code', 'created_at'],
  sort: ['code', 'created_at'],
  check,
})
