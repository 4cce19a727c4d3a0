// What a process says of a database that it cannot check.
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import t, { type TAP as Tap } from 'tap'
import { createLog } from '../../server/log.ts'
import { SafetyCheck } from '../../server/safety.ts'
import { eventually } from '../support/app.ts'
import { openGate } from '../support/gate.ts'
import { testConfig, testServices } from '../support/services.ts'

const { app } = testServices()

/** Lines of the log about one database, while it is checked. */
async function check(t: Pick<Tap, 'teardown' | 'fail'>, url: string) {
  const lines: { level: string; message: string; data: Record<string, string> }[] = []
  const log = createLog('api', 'info', { write: (line) => void lines.push(JSON.parse(line)) })
  const safety = new SafetyCheck(testConfig({ CONTROL_DATABASE_URL: url }), log, (problems) => t.fail(problems.join()))
  t.teardown(() => safety.stop())
  await safety.start()
  return () => lines.filter(({ data }) => data?.target === 'control')
}

t.test('A database that waiting does not mend is logged once, with its SQLSTATE and what to do', async (t) => {
  const at = (change: Partial<URL>) => Object.assign(new URL(app.control), change).href
  for (const [url, code, says] of [
    [at({ pathname: '/nodb' }), '3D000', /database does not exist: create it/],
    [at({ username: 'nobody_here' }), /28000|28P01/, /create the role|wrong credentials/],
  ] as const) {
    const lines = await check(t, url)
    await new Promise((resolve) => setTimeout(resolve, 2_500))
    t.equal(lines().length, 1, 'asked again, logged once')
    t.match(lines()[0], { level: 'error', message: says, data: { code, reason: /nodb|nobody_here/ } })
  }
})

t.test('A change of the reason is logged again', async (t) => {
  const gate = await openGate(t, app.control)
  await gate.shut()
  const lines = await check(t, Object.assign(new URL(gate.url), { pathname: '/nodb' }).href)
  t.match(lines(), [{ level: 'warn', data: { code: /^E/ } }])
  await gate.open()
  await eventually(
    async () => lines().length,
    (count) => count >= 2,
    20,
  )
  t.match(lines().at(-1), { level: 'error', data: { code: '3D000' } })
})

t.test('Wrong credentials and a missing role say what to mend, without the password', async (t) => {
  for (const [code, says] of [
    ['28P01', /wrong credentials: correct the user and password/],
    ['42704', /a role is missing: run npm run migrate/],
  ] as const) {
    // A server that refuses every connection with this SQLSTATE.
    const body = Buffer.from(`SFATAL\0C${code}\0Mrefused for the test\0\0`)
    const frame = Buffer.alloc(5)
    frame.write('E')
    frame.writeInt32BE(body.length + 4, 1)
    const server = createServer((socket) => socket.on('error', () => {}).once('data', () => socket.end(Buffer.concat([frame, body]))))
    await once(server.listen(0, '127.0.0.1'), 'listening')
    t.teardown(() => server.close())
    const { port } = server.address() as AddressInfo
    const lines = (await check(t, `postgres://api:canary@127.0.0.1:${port}/control`))()
    t.match(lines, [{ level: 'error', message: says, data: { code, reason: 'refused for the test' } }])
    t.notMatch(JSON.stringify(lines), /canary/)
  }
})

t.test('A check that is stopped while it waits for an answer starts no other', async (t) => {
  let connections = 0
  const server = createServer((socket) => {
    connections++
    socket.on('error', () => {})
    setTimeout(() => socket.destroy(), 300)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const log = createLog('api', 'silent')
  const config = testConfig({ CONTROL_DATABASE_URL: `postgres://api@127.0.0.1:${port}/control` })
  const safety = new SafetyCheck(config, log, (problems) => t.fail(problems.join()))
  const started = safety.start()
  await eventually(async () => connections, Boolean)
  safety.stop()
  await started
  const before = connections
  await new Promise((resolve) => setTimeout(resolve, 1_500))
  t.equal(connections, before)
})
