// `npm run tenant`: a tenant with its administrator, or nothing.
import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { newId } from '../../domain/kernel/index.ts'
import { connectTo, ownControlPlane, testConfig } from '../support/services.ts'

const plane = await ownControlPlane(t)
const owner = await connectTo(t, plane.admin)
const env = {
  ...process.env,
  ...Object.fromEntries(
    Object.entries(testConfig({ CONTROL_DATABASE_URL: plane.app }))
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [name, typeof value === 'object' ? JSON.stringify(value) : String(value)]),
  ),
}
const command = path.join(import.meta.dirname, '../../server/create-tenant.ts')
const run = (...given: string[]) =>
  promisify(execFile)(process.execPath, [command, ...given], { env, timeout: 60_000 }).then(
    ({ stdout }) => ({ code: 0, text: stdout }),
    (error: { code: number; stderr: string }) => ({ code: error.code, text: error.stderr }),
  )
const slugs = async () => (await owner.query<{ slug: string }>('select slug from tenants order by slug')).rows.map(({ slug }) => slug)

t.test('a bad address, a reserved or malformed name make no tenant; a good call makes it with its administrator', async (t) => {
  const slug = `c${newId().slice(-11)}`
  t.match(await run(slug, 'Flora Ltd', 'notmail', 'Ana'), { code: 1, text: /email/ })
  t.match(await run('www', 'Flora Ltd', 'ana@flora.example', 'Ana'), { code: 1, text: /reserved/ })
  t.match(await run('a--b', 'Flora Ltd', 'ana@flora.example', 'Ana'), { code: 1, text: /slug/ })
  t.same(await slugs(), [])
  t.match(await run(slug, 'Flora Ltd', 'ana@flora.example', 'Ana'), { code: 0, text: /invited/ })
  t.same(await slugs(), [slug])
  const { rows } = await owner.query(
    'select u.email from res_users u join res_user_roles r on r.tenant_id = u.tenant_id and r.user_id = u.id',
  )
  t.same(rows, [{ email: 'ana@flora.example' }])
  t.match(await run(slug, 'Flora Ltd', 'ana@flora.example', 'Ana'), { code: 1, text: /exists/ })
})
