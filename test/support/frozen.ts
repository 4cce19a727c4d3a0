// Services that a test may freeze: they keep their connections open and answer nothing, as after SIGSTOP.
import { type ChildProcess, execFileSync, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import path from 'node:path'
import type { Config } from '../../server/config.ts'
import { freePort } from '../../server/embedded/postgres.ts'

interface Teardown {
  teardown(work: () => unknown): void
}

export interface Freezable {
  freeze(): void
  thaw(): void
}

const byProcess = (child: ChildProcess): Freezable => ({
  freeze: () => void child.kill('SIGSTOP'),
  thaw: () => void child.kill('SIGCONT'),
})

const end = (child: ChildProcess) => () => {
  child.kill('SIGKILL')
}

/** A broker of a process of its own. */
export async function freezableBroker(t: Teardown): Promise<Freezable & { brokers: string }> {
  const child = fork(path.join(import.meta.dirname, 'broker-process.ts'), { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  t.teardown(end(child))
  const [brokers] = (await once(child, 'message')) as [string]
  return { brokers, ...byProcess(child) }
}

const hasRedis = (): boolean => {
  try {
    execFileSync('redis-server', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** A Redis of the test's own: the real server where this machine has it, otherwise a stand-in that counts by one script. */
export async function freezableRedis(t: Teardown): Promise<Freezable & { url: string; real: boolean }> {
  const port = await freePort()
  const url = `redis://127.0.0.1:${port}`
  if (!hasRedis()) return { url, real: false, ...(await standIn(t, port)) }
  const child = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', ''], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(end(child))
  for await (const part of child.stdout) if (String(part).includes('Ready to accept connections')) break
  return { url, real: true, ...byProcess(child) }
}

/** Speaks as much of RESP as the client needs to be ready and to count. */
async function standIn(t: Teardown, port: number): Promise<Freezable> {
  let frozen = false
  const counts = new Map<string, number>()
  const held: (() => void)[] = []
  const answer = (words: readonly string[]): string => {
    const [command = '', , , key = ''] = words
    if (/^info$/i.test(command)) return '$33\r\nredis_version:7.0.0\r\nloading:0\r\n\r\n\r\n'
    if (/^ping$/i.test(command)) return '+PONG\r\n'
    if (!/^eval$/i.test(command)) return '+OK\r\n'
    counts.set(key, (counts.get(key) ?? 0) + 1)
    return `*2\r\n:${counts.get(key)}\r\n:60000\r\n`
  }
  const server = createServer((socket: Socket) => {
    let rest = ''
    const read = () => {
      for (;;) {
        const head = rest.match(/^\*(\d+)\r\n/)
        if (!head) return
        let at = head[0].length
        const words: string[] = []
        for (let index = 0; index < Number(head[1]); index++) {
          const length = rest.slice(at).match(/^\$(\d+)\r\n/)
          if (!length || rest.length < at + length[0].length + Number(length[1]) + 2) return
          at += length[0].length
          words.push(rest.slice(at, at + Number(length[1])))
          at += Number(length[1]) + 2
        }
        rest = rest.slice(at)
        socket.write(answer(words))
      }
    }
    socket.on('error', () => {})
    socket.on('data', (part) => {
      rest += part.toString('latin1')
      if (frozen) held.push(read)
      else read()
    })
  }).listen(port, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return {
    freeze: () => {
      frozen = true
    },
    thaw: () => {
      frozen = false
      for (const read of held.splice(0)) read()
    },
  }
}

/** A server that accepts connections and never says a word. */
export async function blackHole(t: Teardown): Promise<string> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.resume()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return `127.0.0.1:${(server.address() as { port: number }).port}`
}

/** A configuration as the environment of a process. */
export const environmentOf = (config: Partial<Config>): NodeJS.ProcessEnv =>
  Object.fromEntries(
    Object.entries(config)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [name, typeof value === 'object' ? JSON.stringify(value) : String(value)]),
  )

export interface Spawned {
  child: ChildProcess
  /** What it wrote so far, to stdout and to stderr. */
  output(): string
}

/** Starts an entry point of the server in a process of its own. */
export function startProcess(
  t: Teardown,
  entry: 'api' | 'worker' | 'up',
  config: NodeJS.ProcessEnv,
  args: readonly string[] = [],
): Spawned {
  const root = path.join(import.meta.dirname, '../..')
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', path.join(root, 'server', `${entry}.ts`), ...args], {
    env: { ...process.env, UV_THREADPOOL_SIZE: '16', ...config },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.teardown(end(child))
  let text = ''
  const add = (part: Buffer) => {
    text += part.toString()
  }
  child.stdout.on('data', add)
  child.stderr.on('data', add)
  return { child, output: () => text }
}
