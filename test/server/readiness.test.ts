// Which outage takes a process out of service, and which does not.
import t from 'tap'
import { eventually, testApp } from '../support/app.ts'
import { connectTo, ownControlPlane, testServices } from '../support/services.ts'

const plane = await ownControlPlane(t)
const { app } = testServices()
const { tenant, request } = await testApp(t, {
  CONTROL_DATABASE_URL: plane.app,
  DATA_CATALOG: JSON.stringify({ main: app.data, gone: 'postgres://x:x@127.0.0.1:1/x' }),
})
const acme = await tenant()
const ready = () => request('x', { method: 'GET', url: '/ready' })

t.test('D4: one data server down makes /ready degraded, and tenants of the others are served', async (t) => {
  t.match(await ready(), { status: 200, body: { status: 'degraded', checks: { control: 'up', 'data:main': 'up', 'data:gone': 'down' } } })
  t.equal((await acme.admin.post('/erp/parties', { code: 'A', name: 'A', roles: ['client'] })).status, 201)
})

t.test('D4: the control plane down makes /ready unavailable', async (t) => {
  const admin = await connectTo(t, testServices().admin.control)
  const name = new URL(plane.admin).pathname.slice(1)
  await admin.query(`alter database ${name} allow_connections false`)
  t.teardown(() => admin.query(`alter database ${name} allow_connections true`))
  await admin.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [name])
  const away = await eventually(ready, ({ status }) => status === 503, 10)
  t.match(away.body, { status: 'unavailable', checks: { control: 'down', 'data:main': 'up' } })
  await admin.query(`alter database ${name} allow_connections true`)
  await eventually(ready, ({ status }) => status === 200, 20)
})
