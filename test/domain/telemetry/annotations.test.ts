// Annotations: notes of devices and metrics, listed with charts.
import t from 'tap'
import { testApp } from '../../support/app.ts'
import { probes } from '../../support/telemetry.ts'

const { tenant, runtime } = await testApp(t)
const probe = probes(runtime)
const at = (hour: number) => `2026-05-01T0${hour}:00:00.000Z`

t.test('annotations: those of the device and of the metric that touch the time stand beside its chart', async (t) => {
  const acme = await tenant()
  const [device, other] = [await probe(acme), await probe(acme)]
  for (const { send } of [device, other])
    await send([
      { ts: at(1), value: 1 },
      { ts: at(1), metric: 'n', value: 1 },
    ])
  const note = async (text: string, extra: object, device_id = device.id) =>
    (await acme.admin.post('/telemetry/annotations', { device_id, text, starts_at: at(2), ...extra })).data
  await note('whole device', { starts_at: at(0), ends_at: at(1) })
  const moment = await note('a moment', { metric: 'm' })
  await note('long', { starts_at: at(0), ends_at: at(9), metric: 'm' })
  await note('another metric', { metric: 'n' })
  await note('before', { starts_at: at(0) })
  await note('after', { starts_at: at(4) })
  await note('another device', {}, other.id)
  const chart = async (client = acme.viewer, metric = 'm') => {
    const answer = await client.get(`/telemetry/chart?device=${device.code}&metric=${metric}&from=${at(1)}&to=${at(4)}`)
    return answer.data[0].annotations.map(({ text }: { text: string }) => text)
  }
  t.same((await chart()).sort(), ['a moment', 'long', 'whole device'])
  t.same((await chart(acme.viewer, 'n')).sort(), ['another metric', 'whole device'])
  t.match(await acme.admin.patch(`/telemetry/annotations/${moment.id}`, { version: 1, text: 'cleaned' }), {
    status: 200,
    data: { text: 'cleaned' },
  })
  t.match(await acme.admin.delete(`/telemetry/annotations/${moment.id}`, { 'if-match': '"2"' }), { status: 204 })
  t.same((await chart()).sort(), ['long', 'whole device'])
  t.equal((await acme.viewer.get(`/telemetry/annotations?device_id=${device.id}&sort=starts_at`)).data.length, 5)
})

t.test('annotations: what makes no sense is refused, and so are devices of others', async (t) => {
  const [acme, globex] = [await tenant(), await tenant()]
  const device = await probe(acme)
  const note = { device_id: device.id, text: 'x', starts_at: at(2) }
  t.match(await acme.admin.post('/telemetry/annotations', { ...note, ends_at: at(1) }), { status: 400, body: { detail: 'invalid_value' } })
  const made = (await acme.admin.post('/telemetry/annotations', { ...note, ends_at: at(3) })).data
  t.match(await acme.admin.patch(`/telemetry/annotations/${made.id}`, { version: 1, starts_at: at(4) }), {
    status: 400,
    body: { detail: 'invalid_value' },
  })
  t.match(await globex.admin.post('/telemetry/annotations', note), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await globex.admin.get(`/telemetry/annotations/${made.id}`), { status: 404 })
  t.match(await acme.viewer.post('/telemetry/annotations', note), { status: 403, body: { detail: 'permission_denied' } })
})
