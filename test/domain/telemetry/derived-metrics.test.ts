// Derived metrics: expressions over metrics of one device, computed when they are asked for.
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { Type } from 'typebox'
import { Database, sql } from '../../../domain/kernel/index.ts'
import { parseExpression } from '../../../domain/telemetry/expression.ts'
import { alignedSeries, drawnSeries, rawReadings, USUAL_QUALITIES } from '../../../domain/telemetry/index.ts'
import { tally, testApp, times } from '../../support/app.ts'
import { connectTo, testServices } from '../../support/services.ts'
import { type Probe, probes, type Sent } from '../../support/telemetry.ts'

const { tenant, runtime } = await testApp(t)
const probe = probes(runtime)
const PATH = '/telemetry/derived-metrics'
const VPD = '0.6108*exp(17.27*temperature/(temperature+237.3))*(1-humidity/100)'
const vpd = (temperature: number, humidity: number) =>
  0.6108 * Math.exp((17.27 * temperature) / (temperature + 237.3)) * (1 - humidity / 100)
const acme = await tenant()
const START = Date.parse('2026-05-01T00:00:00Z')
const at = (second: number) => new Date(START + second * 1000).toISOString()
const span = `from=${at(0)}&to=${at(86_400)}`
const derive = (body: object) => acme.admin.post(PATH, body)
const refused = (detail: string, status = 400) => ({ status, body: { detail } })
const sent = (metric: string, second: number, value: number): Sent => ({ ts: at(second), metric, value })
const read = async ({ code }: Probe, metric: string, query = '', client = acme.viewer) =>
  client.get(`/telemetry/readings?device=${code}&metric=${metric}&${span}${query}`)
interface Read {
  ts: string
  value: number
  quality: number
}
const values = async (device: Probe, metric: string) => (await read(device, metric)).data.map(({ value }: Read) => value)
const isClose = (t: Test, found: readonly (number | null)[], wanted: readonly number[], message = 'as many values') => {
  t.equal(found.length, wanted.length, message)
  for (const [index, value] of wanted.entries()) t.ok(Math.abs(found[index]! - value) < 1e-9, `${found[index]} is ${value}`)
}

t.test('derived metrics: vapour pressure deficit in readings, buckets, series, charts and streams', async (t) => {
  const device = await probe(acme)
  t.match(await derive({ code: 'vpd', unit: 'kPa', expression: VPD }), {
    status: 201,
    data: { code: 'vpd', unit: 'kPa', max_age_seconds: 0 },
  })
  const pairs = times(100, (n) => [20 + n / 10, 50 + (n % 30)] as const)
  await device.send(pairs.flatMap(([c, h], n) => [sent('temperature', n * 60, c), sent('humidity', n * 60, h)]))
  await device.send([sent('temperature', 30, 99)])
  const wanted = pairs.map(([c, h]) => vpd(c, h))
  isClose(t, await values(device, 'vpd'), wanted.toReversed(), 'the newest first, and none where an input is missing')

  const first = await read(device, 'vpd', '&limit=30')
  t.equal(first.data.length, 30)
  const pages: number[] = first.data.map(({ value }: Read) => value)
  for (let { next_cursor } = first.body.pagination; next_cursor; ) {
    const page = await read(device, 'vpd', `&limit=30&cursor=${encodeURIComponent(next_cursor)}`)
    pages.push(...page.data.map(({ value }: Read) => value))
    next_cursor = page.body.pagination.next_cursor
  }
  isClose(t, pages, wanted.toReversed(), 'pages lose and repeat nothing')

  const hour = wanted.slice(0, 60)
  const [, oldest] = (await read(device, 'vpd', '&bucket=1h&aggregates=p50')).data
  t.match(oldest, { ts: at(0), count: 60 })
  const { min, max, avg, sum, last, p50 } = oldest
  const total = hour.reduce((a, b) => a + b, 0)
  const sorted = hour.toSorted((a, b) => a - b)
  isClose(
    t,
    [min, max, avg, sum, oldest.first, last, p50],
    [sorted[0]!, sorted[59]!, total / 60, total, hour[0]!, hour[59]!, (sorted[29]! + sorted[30]!) / 2],
  )
  t.same((await read(device, 'vpd', '&bucket=1d&fill=null')).data.length, 1)

  const aligned = (await acme.viewer.get(`/telemetry/series?device=${device.code}&metric=vpd,temperature&${span}&bucket=1h&aggregate=max`))
    .data
  t.same(
    aligned.series.map(({ metric, unit }: { metric: string; unit: string | null }) => [metric, unit]),
    [
      ['temperature', null],
      ['vpd', 'kPa'],
    ],
  )
  t.equal(aligned.series[0].values[0], 99)
  isClose(t, aligned.series[1].values.slice(0, 2), [Math.max(...hour), Math.max(...wanted.slice(60))])
  t.equal(aligned.series[1].values[2], null)
  const [chart] = (await acme.viewer.get(`/telemetry/chart?device=${device.code}&metric=vpd&${span}`)).data
  t.match(chart, { metric: 'vpd', unit: 'kPa', source: 'raw' })
  isClose(
    t,
    chart.points.map(({ value }: Read) => value),
    wanted,
  )
  const csv = await acme.viewer.get(`/telemetry/readings?device=${device.code}&metric=vpd&${span}`, { accept: 'text/csv' })
  t.equal(csv.text.trim().split('\n').length, 101)

  for (const name of ['rate', 'time_weighted_avg'])
    t.match(await read(device, 'vpd', `&bucket=1h&aggregates=${name}`), refused('invalid_value'), name)
  t.match(
    await acme.viewer.get(`/telemetry/series?device=${device.code}&metric=vpd&${span}&bucket=1h&aggregate=rate`),
    refused('invalid_value'),
  )
  t.match(await read(await probe(acme), 'vpd'), refused('not_found', 404), 'a device that sends no inputs')
})

t.test('derived metrics: the latest reading of an input counts while it is young enough', async (t) => {
  const device = await probe(acme)
  await derive({ code: 'aged', expression: 'fast + slow', max_age_seconds: 60 })
  await derive({ code: 'same', expression: 'fast + slow' })
  const slow = [sent('slow', -30, 100), sent('slow', 90, 200), sent('slow', 600, 300)]
  await device.send([...times(40, (n) => sent('fast', n * 10, n)), ...slow])
  const found = (await read(device, 'aged')).data.map(({ ts, value }: Read) => [(Date.parse(ts) - START) / 1000, value]).toReversed()
  // The first value is 60 s old at 30, and the reading of 90 at 150; at 600 the last one of `fast` is too old.
  const wanted = times(40, (n) => [n * 10, n] as const).flatMap(([second, n]) =>
    second <= 30 ? [[second, n + 100]] : second >= 90 && second <= 150 ? [[second, n + 200]] : [],
  )
  t.same(found, wanted)
  t.same(await values(device, 'same'), [209])
  const paged: number[] = []
  for (let cursor = ''; ; ) {
    const page = await read(device, 'aged', `&limit=2${cursor}`)
    paged.push(...page.data.map(({ ts }: Read) => (Date.parse(ts) - START) / 1000))
    if (!page.body.pagination.next_cursor) break
    cursor = `&cursor=${encodeURIComponent(page.body.pagination.next_cursor)}`
  }
  t.same(
    paged.toReversed(),
    wanted.map(([second]) => second),
  )
})

t.test('derived metrics: the quality is the worst of the inputs, and bad readings are left out of buckets', async (t) => {
  const device = await probe(acme)
  await derive({ code: 'both', expression: 'qa + qb' })
  await device.send([
    { ...sent('qa', 0, 1), quality: 'uncertain' } as Sent,
    sent('qb', 0, 1),
    { ...sent('qa', 60, 5), quality: 'bad' } as Sent,
    sent('qb', 60, 5),
  ])
  t.same(
    (await read(device, 'both')).data.map(({ value, quality }: Read) => [value, quality]),
    [
      [10, 2],
      [2, 1],
    ],
  )
  t.match((await read(device, 'both', '&bucket=1h')).data, [{ count: 1, max: 2 }])
  t.match((await read(device, 'both', '&bucket=1h&quality=good,uncertain,bad')).data, [{ count: 2, max: 10 }])
})

t.test('derived metrics: what expressions come to, and no point where they have no value', async (t) => {
  const device = await probe(acme)
  const inputs = [-2, 0, 0.5, 3, 1e100, 1e-100]
  await device.send(inputs.flatMap((value, n) => [sent('x', n, value), sent('air.temp', n, value), sent('air-temp', n, value)]))
  const cases: [string, (x: number) => number | null][] = [
    ['x^2', (x) => x ** 2],
    ['1/x', (x) => 1 / x],
    ['ln(x)', Math.log],
    ['log10(x)', Math.log10],
    ['sqrt(x)', Math.sqrt],
    ['exp(x)', Math.exp],
    ['abs(x)', Math.abs],
    ['round(x*10)', (x) => Math.round(x * 10)],
    ['-x+1', (x) => -x + 1],
    ['(-x)^0.5', (x) => (-x) ** 0.5],
    ['x^-1', (x) => x ** -1],
    ['2^x^2', (x) => 2 ** (x ** 2)],
    ['x*x*x', (x) => x ** 3],
    ['x-1-1', (x) => x - 2],
    ['min(x, 1, 2) + max(x, -1)', (x) => Math.min(x, 1, 2) + Math.max(x, -1)],
    ['if(x < 0 || x >= 3 && x != 4, 1, ln(x))', (x) => (x < 0 || x >= 3 ? 1 : Math.log(x))],
    ['if(ln(x) > 0, 1, 2)', (x) => (x > 0 ? (Math.log(x) > 0 ? 1 : 2) : null)],
    ["'air-temp' + air.temp", (x) => 2 * x],
  ]
  for (const [index, [expression, compute]] of cases.entries()) {
    const code = `case_${index}`
    t.equal((await derive({ code, expression })).status, 201, expression)
    const wanted = inputs.map(compute).filter((value) => value !== null && Number.isFinite(value) && Math.abs(value) <= 1e100)
    const found = (await values(device, code)).toReversed()
    t.equal(found.length, wanted.length, `${expression}: ${found} is ${wanted}`)
    for (const [n, value] of wanted.entries()) {
      const near = Math.abs(found[n] - value!) <= 1e-12 * Math.abs(value!)
      t.ok(near || (Math.abs(value!) < 1e-150 && found[n] === 0), `${expression}: ${found[n]} is ${value}`)
    }
  }
})

t.test('derived metrics: expressions that are refused', async (t) => {
  const nested = (depth: number) => `${'abs('.repeat(depth)}x${')'.repeat(depth)}`
  const bad: [string, string][] = [
    ['x +', 'syntax'],
    ['x; drop table tel_metric', 'syntax'],
    ["x'); select 1 --", 'syntax'],
    ['x /* y */', 'syntax'],
    ['x = 1', 'syntax'],
    ['x < 1', 'syntax'],
    ['if(x, 1, 2)', 'syntax'],
    ['if(x < 1, 2)', 'syntax'],
    ['-x^2', 'syntax'],
    ['x ** 2', 'syntax'],
    ['x[0]', 'syntax'],
    ['eval(x)', 'syntax'],
    ['toString(x)', 'syntax'],
    ['constructor(x)', 'syntax'],
    ['x ? 1 : 2', 'syntax'],
    ['() => x', 'syntax'],
    ['`x`', 'syntax'],
    ['x, x', 'syntax'],
    ['abs(x, x)', 'syntax'],
    ['min(...x)', 'syntax'],
    ['1 + 2', 'inputs'],
    ['a+b+c+d+e+f+g+h+i', 'inputs'],
    ['x * 1e101', 'number'],
    [nested(20), 'depth'],
  ]
  for (const [expression, rule] of bad)
    t.match(
      await derive({ code: 'bad', expression }),
      { ...refused('invalid_value'), body: { error: { details: { path: '/expression', rule } } } },
      expression,
    )
  t.match(await derive({ code: 'bad', expression: 'x +* y' }), { body: { error: { details: { message: /character 4/ } } } })
  t.equal((await derive({ code: 'bad', expression: `x${'+1'.repeat(250)}` })).status, 400)
  t.equal((await derive({ code: 'deep', expression: nested(19) })).status, 201)
  t.equal((await derive({ code: 'eight', expression: 'a+b+c+d+e+f+g+h+a' })).status, 201)
})

t.test('derived metrics: codes are those of no metric, of twenty at once one is created, and inputs stay', async (t) => {
  const device = await probe(acme)
  const [one, other, input] = await Promise.all(
    ['known', 'other', 'input'].map(async (code) => (await acme.admin.post('/telemetry/metrics', { code })).data),
  )
  t.match(await derive({ code: one.code, expression: 'input * 2' }), refused('already_exists', 409))
  const answers = await Promise.all(
    times(20, (n) =>
      n % 2
        ? derive({ code: 'twice', expression: 'input * 2' })
        : n % 4
          ? acme.admin.post('/telemetry/metrics', { code: 'twice' })
          : device.send([sent('twice', n, n)]).then(({ accepted }) => ({ status: accepted ? 201 : 409 })),
    ),
  )
  const kinds = new Set(answers.flatMap(({ status }, n) => (status === 201 ? [n % 2 ? 'derived' : 'metric'] : [])))
  t.equal(kinds.size, 1, JSON.stringify(tally(answers as never)))

  const made = (await derive({ code: 'double', expression: 'input * 2' })).data
  t.match(await acme.admin.post('/telemetry/metrics', { code: 'double' }), refused('already_exists', 409))
  t.match(await device.send([sent('double', 0, 1), sent('input', 0, 4)]), {
    accepted: 1,
    rejections: [{ reason: 'unknown_metric', count: 1 }],
  })
  t.same(await values(device, 'double'), [8])
  t.match(await acme.admin.patch(`/telemetry/metrics/${other.id}`, { version: 1, code: 'double' }), refused('already_exists', 409))
  t.match(await acme.admin.patch(`/telemetry/metrics/${input.id}`, { version: 1, code: 'renamed' }), refused('in_use', 409))
  t.match(await acme.admin.patch(`/telemetry/metrics/${input.id}`, { version: 1, code: 'input', unit: 'm' }), { status: 200 })
  const nested = { ...refused('invalid_value'), body: { error: { details: { rule: 'derived' } } } }
  t.match(await derive({ code: 'four', expression: 'double * 2' }), nested, 'over a derived one')
  t.match(await derive({ code: 'input', expression: 'known' }), refused('invalid_value'), 'an input of another one')
  t.match(await derive({ code: 'self', expression: 'self + 1' }), nested, 'over itself')
  const condition = { kind: 'threshold', metric: 'double', above: 3 }
  t.match(await acme.admin.post('/telemetry/rules', { name: 'R', condition }), nested, 'rules')

  // A change applies to the whole history, as nothing is stored.
  const path = `${PATH}/${made.id}`
  t.match(await acme.admin.patch(path, { version: 1, expression: 'input +' }), refused('invalid_value'))
  t.match(await acme.admin.patch(path, { version: 1, expression: 'input * 3', code: 'triple' }), { status: 200 })
  t.same(await values(device, 'triple'), [12])
  t.match(await read(device, 'double'), refused('not_found', 404))
  t.equal((await acme.admin.delete(path, { 'if-match': '"2"' })).status, 204)
  t.match(await read(device, 'triple'), refused('not_found', 404))
  t.match(await device.send([sent('triple', 0, 1)]), { accepted: 1 }, 'its code is free')
  t.match(await acme.admin.post(`${path}/recover`, {}), refused('already_exists', 409))
})

t.test('derived metrics: who may change them, and other tenants', async (t) => {
  const globex = await tenant()
  const made = (await derive({ code: 'own', expression: 'x' })).data
  t.match(await acme.viewer.post(PATH, { code: 'v', expression: 'x' }), refused('permission_denied', 403))
  t.match(await acme.viewer.get(`${PATH}/${made.id}`), { status: 200, data: { code: 'own' } })
  t.match(await globex.admin.get(`${PATH}/${made.id}`), refused('not_found', 404))
  t.match(await globex.admin.patch(`${PATH}/${made.id}`, { version: 1, expression: '1*x' }), refused('not_found', 404))
  const theirs = await probe(globex)
  await theirs.send([sent('x', 0, 1)])
  t.match(await read(theirs, 'own', '', globex.viewer), refused('not_found', 404))
  t.match(await read(theirs, 'own'), refused('not_found', 404))
  // Derived metrics are the tenant's; devices are those of the organization.
  const mine = await probe(acme)
  await mine.send([sent('x', 0, 7)])
  t.same(await values(mine, 'own'), [7])
  const switched = await acme.admin.post('/context/switch?token=body', { organization_id: acme.organizations[1]!.id })
  const elsewhere = acme.as(switched.data.access_token)
  t.match(await elsewhere.get(`${PATH}/${made.id}`), { status: 200 })
  t.match(await read(mine, 'own', '', elsewhere), refused('not_found', 404))
})

t.test('derived metrics: definitions and readings of the inputs are found by index', async (t) => {
  const globex = await tenant()
  const device = await probe(globex)
  await globex.admin.post(PATH, { code: 'planned', expression: 'x + y' })
  await globex.admin.post(PATH, { code: 'aged', expression: 'x + y', max_age_seconds: 60 })
  await device.send([sent('x', 0, 1), sent('y', 0, 1)])
  const services = testServices()
  const owner = await connectTo(t, services.admin.telemetry)
  await owner.query(
    `insert into tel_derived_metric (id, tenant_id, code, expression)
     select gen_random_uuid(), gen_random_uuid(), 'planned', 'x' from generate_series(1, 20000)`,
  )
  await owner.query(
    `insert into tel_measurement (tenant_id, series_id, ts, value)
     select $1, 1000000000 + n / 100, timestamptz '2026-05-01T00:00Z' + n % 100 * interval '1 minute', n from generate_series(1, 100000) n`,
    [globex.id],
  )
  await owner.query('analyze tel_derived_metric, tel_measurement')
  const asked: { sql: string; values: readonly unknown[] }[] = []
  const capture = {
    name: 'capture',
    beforeQueryExecution: (_: unknown, query: { sql: string; values: readonly unknown[] }) => void asked.push(query),
  }
  const database = new Database(services.app.telemetry, { max: 1, interceptors: [capture as never] })
  t.teardown(() => database.close())
  const time = { from: at(0), to: at(3_600), qualities: USUAL_QUALITIES }
  for (const metric of ['planned', 'aged']) {
    const named = { devices: [device.code], metrics: [metric] }
    const aligned = { ...named, ...time, bucket: '1h', timeZone: 'UTC', buckets: 10, aggregate: 'avg', fill: 'null' } as const
    await database.read(globex.scope, async (tx) => {
      t.same(await rawReadings(tx, { device: device.code, metric, ...time, limit: 10, before: null }), [
        { ts: at(0), value: 2, quality: 0 },
      ])
      t.same((await alignedSeries(tx, aligned)).series[0]!.values, [2])
      t.same((await drawnSeries(tx, { ...named, ...time, points: 10, annotated: false }))[0]!.points, [{ ts: at(0), value: 2 }])
    })
  }
  const statements = asked.filter(({ sql }) => /tel_(measurement|derived_metric)/.test(sql))
  t.ok(statements.length >= 16)
  const reader = await connectTo(t, services.app.telemetry)
  await reader.query(`select set_config('tenantry.tenant_id', $1, false)`, [globex.id])
  for (const { sql, values } of statements) {
    const { rows } = await reader.query(`explain ${sql}`, [...values])
    const plan = rows.map((line) => line['QUERY PLAN']).join('\n')
    t.notMatch(plan, /Seq Scan on (tel_measurement_2026_05|tel_measurement_default|tel_derived_metric)\b/, plan)
  }
})

t.test('derived metrics: no expression over any readings is an error of the database', async (t) => {
  const leaf = fc.oneof(
    fc.constantFrom('x', 'y'),
    fc.constantFrom(0, 1, 2, 0.5, 345, 346, 1e100, 1e-100).map((n) => `${n}`),
  )
  const { expression } = fc.letrec<{ expression: string }>((tie) => ({
    expression: fc.oneof(
      { maxDepth: 6, withCrossShrink: true },
      leaf,
      fc.tuple(tie('expression'), fc.constantFrom('+', '-', '*', '/', '^'), tie('expression')).map(([a, o, b]) => `(${a})${o}(${b})`),
      fc.tuple(fc.constantFrom('abs', 'sqrt', 'exp', 'ln', 'log10', 'round'), tie('expression')).map(([f, a]) => `${f}(-(${a}))`),
      fc.tuple(fc.constantFrom('min', 'max'), tie('expression'), tie('expression')).map(([f, a, b]) => `${f}(${a}, ${b})`),
      fc.tuple(tie('expression'), tie('expression')).map(([a, b]) => `if(${a} < ${b} && ${b} != 0, ${a}, ${b})`),
    ),
  }))
  const samples = fc
    .sample(expression, { numRuns: 400, seed: 19 })
    .map((text) => `x+${text}`)
    .filter((text) => text.length <= 500)
  t.ok(samples.length > 200)
  const extremes = [0, -0, 1, -1, 0.5, 345, -345, 1e100, -1e100, 1e-100, 5e-324, -5e-324, 1.7e308]
  const rows = extremes.flatMap((x) => extremes.map((y) => [x, y]))
  const Least = Type.Object({ wrong: Type.Integer() }, { additionalProperties: false })
  await runtime.services.planes.telemetry.get('main')!.read(acme.scope, async (tx) => {
    for (const text of samples) {
      const value = parseExpression(text).toSql((code) => sql.fragment`plane.in_range(${sql.identifier([code])})`)
      const { wrong } = await tx.one(sql.type(Least)`
        select count(*) filter (where not abs(value) <= 1e150 or abs(value) between 1e-320 and 1e-151) as wrong from (
          select ${value} as value from ${sql.unnest(rows, ['float8', 'float8'])} as r (x, y)
        ) as computed`)
      if (wrong > 0) t.fail(`${text} is out of range`)
    }
  })
})
