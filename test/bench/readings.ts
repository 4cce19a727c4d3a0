// Questions about readings at their size, alerts while 20,000 readings a second come, and a thousand who watch.
import { type ClientRequest, request } from 'node:http'
import { Client } from 'pg'
import { sumUpHours } from '../../domain/telemetry/index.ts'
import { telemetryConsumer } from '../../workers/telemetry-consumer.ts'
import { times } from '../support/app.ts'
import { admin, first, goal, must, note, ours, percentile, quick, quietLog, runtime, took } from './harness.ts'

const YEAR_MINUTES = 525_600
const LATEST = 1_000
const RATE = 20_000
const SECONDS = quick ? 5 : 15
const WATCHERS = 1_000
const STREAMS_OF_A_USER = 10

const devicesOf = async (count: number, prefix: string): Promise<{ id: string; code: string; key: string }[]> => {
  const made = (await must('POST', '/telemetry/devices/bulk', {
    rows: times(count, (n) => ({ code: `${prefix}-${n}`, name: 'Bench', tags: [prefix] })),
  })) as { id: string; code: string }[]
  const keys = (await must('POST', '/telemetry/devices/keys', { device_ids: made.map(({ id }) => id) })) as { key: string }[]
  return made.map((device, n) => ({ ...device, key: keys[n]!.key }))
}

/** A year of minutes of one series, and a hundred readings of each of a thousand, over two months. */
async function seed(telemetry: Client): Promise<void> {
  note('  a year of minutes …')
  const devices = [...(await devicesOf(1, 'year')), ...(await devicesOf(LATEST, 'many'))]
  const metric = ((await must('POST', '/telemetry/metrics', { code: 'bench' })) as { id: string }).id
  await telemetry.query('insert into tel_series (tenant_id, device_id, metric_id) select $1, d, $2 from unnest($3::uuid[]) as d', [
    first.id,
    metric,
    devices.map(({ id }) => id),
  ])
  await telemetry.query(
    `insert into tel_measurement (tenant_id, series_id, ts, value)
     select $1, s.series_id, date_trunc('minute', now()) - n * interval '1 minute', sin(n / 100.0) * 10 + n % 7
     from tel_series s join tel_device d on d.id = s.device_id cross join generate_series(1, $2::int) n where d.code = 'year-0'`,
    [first.id, YEAR_MINUTES],
  )
  await telemetry.query(
    `insert into tel_measurement (tenant_id, series_id, ts, value)
     select $1, s.series_id, date_trunc('minute', now()) - n * interval '14 hours', n
     from tel_series s join tel_device d on d.id = s.device_id cross join generate_series(1, 100) n where d.code like 'many-%'`,
    [first.id],
  )
  await sumUpHours(runtime.services.planes.telemetry.get('main')!, first.id)
  await telemetry.query('vacuum analyze')
}

async function questions() {
  const from = new Date(Date.now() - 365 * 86_400_000).toISOString()
  const ask = async (name: string, path: string, limit: number) => {
    await took(5, () => must('GET', path))
    const times = await took(40, () => must('GET', path))
    note(`    ${name}: ${percentile(times, 0.5).toFixed(1)} ms p50, ${percentile(times, 0.99).toFixed(1)} ms p99`)
    goal(name, percentile(times, 0.5), limit, 'ms p50')
  }
  const year = `device=year-0&metric=bench&from=${from}&time_zone=Europe/Madrid`
  await ask('a year of one series in hours', `/telemetry/series?${year}&bucket=1h`, 50)
  await ask('a year of one series in hours, all of each', `/telemetry/readings?${year}&bucket=1h&limit=10000`, 100)
  await ask('a year of one series in days', `/telemetry/readings?${year}&bucket=1d`, 50)
  await ask('10,000 raw points', `/telemetry/readings?${year}&limit=10000`, 50)
  await ask('latest of 1,000 series', '/telemetry/latest?tag=many', 20)
  await ask('a year drawn with 500 points', `/telemetry/chart?device=year-0&metric=bench&from=${from}&points=500`, 50)
}

/** From a reading that is too hot to the alert that can be read, while others come at the rate that is asked of it. */
async function alerts(telemetry: Client) {
  note(`  alerts at ${RATE} readings a second …`)
  const [crowd, hot] = [await devicesOf(200, 'crowd'), await devicesOf(SECONDS * 4, 'hot')]
  await must('POST', '/telemetry/rules', { name: 'Too hot', condition: { kind: 'threshold', metric: 'm', above: 1_000 } })
  const rss: number[] = []
  const { kafka, producer, services } = runtime
  const consumer = telemetryConsumer({ kafka, planes: services.planes, tenants: services.tenants, producer, log: quietLog.root })
  await consumer.start()
  await consumer.assigned(10_000)
  const message = ({ code, key }: { code: string; key: string }, count: number, value: number) => ({
    topic: 'tenantry.telemetry.v1',
    key: code,
    headers: { 'device-key': key },
    value: JSON.stringify({
      tenant: first.slug,
      device: code,
      readings: times(count, (n) => ({ ts: new Date(Date.now() - n).toISOString(), metric: 'm', value })),
    }),
  })
  const sent = new Map<string, number>()
  const took: number[] = []
  let sending = true
  const looking = (async () => {
    while (sending || took.length < hot.length) {
      const { rows } = await telemetry.query<{ code: string }>(
        'select d.code from tel_alert a join tel_device d on d.id = a.device_id where a.tenant_id = $1',
        [first.id],
      )
      for (const { code } of rows) {
        if (!sent.has(code)) continue
        took.push(performance.now() - sent.get(code)!)
        sent.delete(code)
      }
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  })()
  const start = performance.now()
  const PER_MESSAGE = 20
  for (let tick = 0; tick < SECONDS * 20; tick++) {
    const some = times(RATE / 20 / PER_MESSAGE, (n) => message(crowd[(tick * 50 + n) % crowd.length]!, PER_MESSAGE, 20))
    if (tick % 5 === 0) {
      const one = hot[tick / 5]!
      sent.set(one.code, performance.now())
      some.push(message(one, 1, 2_000))
    }
    await producer.send(some)
    rss.push(process.memoryUsage.rss())
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, start + (tick + 1) * 50 - performance.now())))
  }
  const seconds = (performance.now() - start) / 1000
  sending = false
  await looking
  await consumer.stop()
  note(
    `    ${((SECONDS * RATE) / seconds).toFixed(0)} readings a second were sent; ${took.length} alerts, ${percentile(took, 0.5).toFixed(0)} ms p50`,
  )
  goal('alert after its reading', percentile(took, 0.99), 2_000)
}

/** Streams of many users on the API's one process. */
async function watchers() {
  note(`  ${WATCHERS} who watch …`)
  const before = (await ours.usage()).rss
  const users = await Promise.all(times(WATCHERS / STREAMS_OF_A_USER, () => first.user('viewer')))
  const open: ClientRequest[] = []
  const heard: ((at: number) => void)[] = []
  await Promise.all(
    users.flatMap((user) =>
      times(
        STREAMS_OF_A_USER,
        () =>
          new Promise<void>((resolve, reject) => {
            const url = new URL('/api/v1/events/stream?types=erp.uom.*', ours.url)
            const one = request(url, { agent: false, headers: { host: first.host, authorization: `Bearer ${user.token}` } }, (response) => {
              if (response.statusCode !== 200) reject(new Error(`stream: ${response.statusCode}`))
              response.setEncoding('utf8')
              response.on('data', (text: string) => {
                if (text.includes('id: ')) resolve()
                if (text.includes('event: erp.uom.created')) for (const told of heard) told(performance.now())
              })
            })
            one.on('error', reject)
            one.end()
            open.push(one)
          }),
      ),
    ),
  )
  const took: number[] = []
  for (let round = 0; round < 10; round++) {
    let began = 0
    let missing = WATCHERS
    const all = Promise.withResolvers<void>()
    heard.splice(0, 1, (at) => {
      took.push(at - began)
      if (--missing === 0) all.resolve()
    })
    began = performance.now()
    await must('POST', '/erp/uoms', { code: `W${round}`, name: 'Watched', dimension: 'count' })
    await all.promise
  }
  const { rss } = await ours.usage()
  for (const one of open) {
    one.on('error', () => {})
    one.destroy()
  }
  note(`    the process grew from ${(before / 1e6).toFixed(0)} to ${(rss / 1e6).toFixed(0)} MB`)
  goal('event to a thousand readers, from before it was asked for', percentile(took, 0.99), 200)
  goal('what a thousand readers take', (rss - before) / 1e6, 200, 'MB')
}

export async function readings() {
  note('readings …')
  const telemetry = new Client({ connectionString: admin.telemetry })
  await telemetry.connect()
  await seed(telemetry)
  await questions()
  await alerts(telemetry)
  await watchers()
  await telemetry.end()
}
