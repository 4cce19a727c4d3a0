// Kafka goes away for a minute, under load, and comes back: what was promised is there, what could not be was said at once.
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { Type } from 'typebox'
import { newId, sql } from '../../domain/kernel/index.ts'
import { startWorkers } from '../../server/workers.ts'
import { Consumer, createTopics, type Message } from '../../workers/kafka.ts'
import { catalogCharge, Relay } from '../../workers/relay.ts'
import { TOPICS, topicDeclarations } from '../../workers/topics.ts'
import { type Answer, eventually, testApp, times } from '../support/app.ts'
import { noOwnBroker, ownBroker } from '../support/broker.ts'
import { ownControlPlane, quietLog } from '../support/services.ts'

const AWAY_MS = 60_000
const PATIENCE_MS = 15_000
const Count = Type.Object({ n: Type.Integer() })

t.test('Kafka is away for a minute', { skip: noOwnBroker, timeout: 300_000 }, async (t) => {
  const [broker, plane] = await Promise.all([ownBroker(t), ownControlPlane(t)])
  await broker.start()
  const { tenant, runtime } = await testApp(t, { KAFKA_BROKERS: broker.brokers, CONTROL_DATABASE_URL: plane.app })
  const made = () =>
    createTopics(runtime.kafka, topicDeclarations, 1).then(
      () => true,
      () => false,
    )
  await eventually(made, Boolean, 60)
  const workers = await startWorkers(runtime, quietLog, ['telemetry'])
  t.teardown(() => workers.stop())
  // Of the one database that is this test's own: events of the others are theirs who share them.
  const relay = new Relay(catalogCharge(runtime.services.planes.control, plane.app), runtime.producer, quietLog.root)
  relay.start()
  t.teardown(() => relay.stop())
  const told = new Set<string>()
  const listener = new Consumer({
    ...runtime.kafka,
    group: `test-${newId()}`,
    topics: [TOPICS.events],
    handle: async (batch: readonly Message[]) => {
      for (const { value } of batch) told.add(JSON.parse(value!.toString()).entity_id)
    },
  })
  await listener.start()
  t.teardown(() => listener.stop())
  await Promise.all([workers.assigned(30_000), listener.assigned(30_000)])

  const acme = await tenant()
  const { id, code } = (await acme.admin.post('/telemetry/devices', { code: `probe-${newId().slice(-8)}`, name: 'Probe' })).data
  const { key } = (await acme.admin.post(`/telemetry/devices/${id}/keys`, {})).data
  const base = Math.floor(Date.now() / 1000) * 1000 - 10_000_000
  let sent = 0
  /** Sends a reading that no other is like. */
  const send = async (): Promise<{ at: number; answer: Answer; ms: number }> => {
    const at = base + sent++ * 1000
    const reading = { ts: new Date(at).toISOString(), metric: 'm', value: 1 }
    const began = performance.now()
    const answer = await acme.as(key).post('/telemetry/readings', { tenant: acme.slug, device: code, readings: [reading] })
    return { at, answer, ms: performance.now() - began }
  }
  const role = () => acme.admin.post('/rbac/roles', { code: `r-${newId().slice(-8)}`, name: 'Made meanwhile', permissions: [] })
  t.equal((await send()).answer.status, 202)

  const underWay = times(20, () => send())
  await broker.kill()
  const gone = Date.now()
  const midst = await Promise.all(underWay)
  const away: Awaited<ReturnType<typeof send>>[] = []
  const roles: Answer[] = []
  while (Date.now() - gone < AWAY_MS) {
    const [one, other] = await Promise.all([send(), role()])
    away.push(one)
    roles.push(other)
    await sleep(500)
  }
  t.ok(away.length >= 3)
  for (const { answer } of away) t.match(answer, { status: 503, body: { detail: 'broker_unavailable' }, headers: { 'retry-after': /\d/ } })
  for (const { status } of roles) t.equal(status, 201, 'what needs no Kafka goes on')
  const meantime = away.slice(3).map(({ ms }) => ms)
  t.ok(Math.max(...meantime) < PATIENCE_MS / 3, 'once it is known to be away, that is said soon')
  const longest = Math.max(...[...midst, ...away].map(({ ms }) => ms))
  t.ok(longest < PATIENCE_MS, `the longest waited ${longest.toFixed(0)} ms for an answer`)

  const { n } = await runtime.services.planes.control.platform((queries) =>
    queries.one(
      sql.type(
        Count,
      )`select count(*)::int as n from plane.event_outbox where tenant_id = ${acme.id} and attempts > 0 and status <> 'dispatched'`,
    ),
  )
  t.equal(n, 0, 'nothing is to blame on the events: however long it takes, none of them fails')

  await broker.start()
  const back = await eventually(send, ({ answer }) => answer.status === 202, 60)
  const after = await Promise.all(times(20, () => send()))
  const promised = [...midst, back, ...after].filter(({ answer }) => answer.status === 202).map(({ at }) => at)
  t.ok(promised.length >= 21)
  const missing = async () => {
    const from = new Date(base).toISOString()
    const { data } = await acme.viewer.get(`/telemetry/readings?device=${code}&metric=m&limit=1000&from=${from}`)
    const there = new Set(((data ?? []) as { ts: string }[]).map(({ ts }) => Date.parse(ts)))
    return promised.filter((at) => !there.has(at))
  }
  t.same(await eventually(missing, (none) => none.length === 0, 60), [], 'all that was promised is there')
  const untold = async () => roles.map(({ data }) => data.id as string).filter((id) => !told.has(id))
  t.same(await eventually(untold, (none) => none.length === 0, 60), [], 'what happened meanwhile is told')
})
