// Signals to `npm run api` and `npm run worker` reach the process that serves.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import t from 'tap'
import { eventually } from '../support/app.ts'
import { environmentOf } from '../support/frozen.ts'
import { testConfig } from '../support/services.ts'

const root = path.join(import.meta.dirname, '../..')

for (const [script, ready] of [
  ['api', '"listening"'],
  ['worker', '"working"'],
] as const) {
  t.test(`SIGTERM to the npm of \`npm run ${script}\` stops it in order`, { timeout: 120_000 }, async (t) => {
    // In a process group of its own, so that whatever is left of it is ended with the test.
    const npm = spawn('npm', ['run', '-s', script, ...(script === 'worker' ? ['--', '--only=relay'] : [])], {
      cwd: root,
      detached: true,
      env: { ...process.env, ...environmentOf(testConfig({ LOG_LEVEL: 'info' })) },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    for (const stream of [npm.stdout, npm.stderr])
      stream.on('data', (part) => {
        output += part
      })
    t.teardown(() => {
      try {
        process.kill(-npm.pid!, 'SIGKILL')
      } catch {} // nothing is left
    })
    const closed = once(npm, 'close') // when the last process that holds the pipes has ended
    await eventually(
      async () => output,
      (text) => text.includes(ready),
      60,
    )
    process.kill(npm.pid!, 'SIGTERM')
    await closed
    t.match(output, /"stopping"/)
  })
}
