// `npm run api` in a process of its own: to be measured alone, and to be killed.
import { type ChildProcess, fork } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import type { Config } from '../../server/config.ts'
import { freePort } from '../../server/embedded/postgres.ts'

export interface ApiProcess {
  url: string
  metricsUrl: string
  child: ChildProcess
}

const root = path.join(import.meta.dirname, '../..')

/** Starts it on a configuration, with the flags that its script gives to Node; returns when it is ready. */
export async function startApi(config: Config): Promise<ApiProcess> {
  const { scripts } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { scripts: { api: string } }
  const execArgv = scripts.api.split(' ').filter((part) => part.startsWith('--'))
  const settings = { ...config, PORT: await freePort(), METRICS_PORT: await freePort() }
  const env = Object.fromEntries(
    Object.entries(settings)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [name, typeof value === 'object' ? JSON.stringify(value) : String(value)]),
  )
  const child = fork(path.join(root, 'server/api.ts'), {
    execArgv,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  const url = `http://127.0.0.1:${settings.PORT}`
  for (let waited = 0; !(await fetch(`${url}/ready`).catch(() => null))?.ok; waited++) {
    if (child.exitCode !== null || waited > 400) throw new Error('the API does not start')
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return { url, metricsUrl: `http://127.0.0.1:${settings.METRICS_PORT}/metrics`, child }
}
