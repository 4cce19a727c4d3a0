// Signing in.
import { Client } from 'pg'
import { createUser, verifyPassword } from '../../domain/identity/index.ts'
import { systemScope } from '../../domain/kernel/index.ts'
import { fetchAs } from '../support/fetch-as.ts'
import { admin, auth, first, note, ours, PASSWORD, percentile, results, runtime, timed } from './harness.ts'
import { load } from './load.ts'

export async function login() {
  note('login …')
  const people = 200
  const control = new Client({ connectionString: admin.control })
  await control.connect()
  const { password_hash: hash } = (await control.query('select password_hash from res_users where id = $1', [first.admin.userId])).rows[0]
  await control.end()
  const emails = Array.from({ length: people }, (_, n) => `person-${n}@${first.slug}.example`)
  await runtime.services.planes.control.write(systemScope(first.id, 'bench', ''), async (tx) => {
    for (const email of emails) await createUser(tx, { email, name: 'Person', password: '', hash })
  })
  let address = 0
  const post = (email: string, password: string) =>
    fetchAs(first.host, `${ours.url}/api/v1/auth/login`, {
      method: 'POST',
      // Each from an address of its own: what is measured is signing in, not waiting for one's turn.
      headers: {
        'x-forwarded-for': `10.9.${++address >> 8}.${address & 255}`,
        'content-type': 'application/json',
      },
      body: JSON.stringify({ email, password }),
    }).then(async (answer) => {
      await answer.text()
      return answer.status
    })
  const argon: number[] = []
  const whole: number[] = []
  for (const email of emails.slice(0, 50)) {
    argon.push(await timed(() => verifyPassword(hash, PASSWORD)))
    whole.push(await timed(() => post(email, PASSWORD)))
  }
  const [alone, all] = [percentile(argon, 0.5), percentile(whole, 0.5)]
  results.push({ name: 'login, share of argon2', ratio: alone / all, ours: all, limit: alone, unit: 'ms p50' })

  const others = { headers: auth(first), connections: 4 }
  const calm = await load(`${ours.url}/api/v1/auth/me`, { ...others, seconds: 6 })
  const busy = load(`${ours.url}/api/v1/auth/me`, { ...others, seconds: 6 })
  await new Promise((resolve) => setTimeout(resolve, 500))
  const statuses = await Promise.all(emails.map((email) => post(email, PASSWORD)))
  const slowed = await busy
  const tally = Object.entries(Object.groupBy(statuses, String)).map(([status, list]) => `${list!.length} × ${status}`)
  results.push({
    name: `p99 of others beside 200 logins (${tally.join(', ')})`,
    ratio: slowed.p99 / calm.p99,
    ours: slowed.p99,
    limit: calm.p99,
    unit: 'ms p99',
  })

  const known: number[] = []
  const unknown: number[] = []
  for (const [n, email] of emails.entries()) {
    known.push(await timed(() => post(email, 'not the password')))
    unknown.push(await timed(() => post(`nobody-${n}@${first.slug}.example`, 'not the password')))
  }
  for (const share of [0.5, 0.9, 0.99]) {
    const [there, not] = [percentile(known, share), percentile(unknown, share)]
    results.push({ name: `wrong password / unknown address, p${share * 100}`, ratio: there / not, ours: there, limit: not, unit: 'ms' })
  }
}
