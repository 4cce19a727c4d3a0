// The rights matrix of a large tenant.
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Client as Pg } from 'pg'
import t from 'tap'
import { matrix } from '../../../domain/access/index.ts'
import { testApp } from '../../support/app.ts'
import { testServices } from '../../support/services.ts'

const { app, tenant, runtime } = await testApp(t)

t.test('R4: the matrix of 2,000 users gives the event loop back while it is evaluated', async (t) => {
  const acme = await tenant()
  const owner = new Pg({ connectionString: testServices().admin.control })
  await owner.connect()
  t.teardown(() => owner.end())
  await owner.query(
    `with made as (
       insert into res_users (id, tenant_id, email, name, status)
       select gen_random_uuid(), $1, 'u' || n || '@matrix.example', 'User ' || n, 'active' from generate_series(1, 2000) as n returning id)
     insert into res_user_roles (id, tenant_id, user_id, role_id) select gen_random_uuid(), $1, id, $2 from made`,
    [acme.id, acme.roles.viewer],
  )
  const registry = app.permissions
  const stored = await runtime.services.tenants.byId(acme.id)
  const delay = monitorEventLoopDelay({ resolution: 5 })
  delay.enable()
  const began = performance.now()
  const rows = await runtime.services.planes.control.read(acme.scope, (tx) => matrix(tx, stored!, registry, acme.scope.context, false))
  const total = performance.now() - began
  delay.disable()
  t.equal(rows.length, 2_004)
  t.equal(new Set(rows.map(({ user_id }) => user_id)).size, 2_004)
  // A share of the whole, because a slow machine holds everything up: evaluated in one go it would be nearly all of it.
  t.ok(delay.max / 1e6 < total / 2, `held up for ${(delay.max / 1e6).toFixed()} of ${total.toFixed()} ms at most`)
})
