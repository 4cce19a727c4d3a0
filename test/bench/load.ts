// A load in a process of its own, so that the server's CPU time is the server's alone.
import { fork } from 'node:child_process'
import { Agent, request } from 'node:http'
import { setTimeout } from 'node:timers/promises'

export interface Load {
  requests: number
  errors: number
  firstError: string
  /** Requests a second. */
  rate: number
  /** Milliseconds. */
  p50: number
  p99: number
}

export interface Plan {
  url: string
  /** One set for all requests, or several that take turns. */
  headers: Record<string, string> | Record<string, string>[]
  connections: number
  seconds: number
  /**
   * Requests a second of all connections together, each as far from the next; as fast as they are answered when nothing is
   * said. Time runs from when a request was due, so that a late answer is not hidden by asking later.
   */
  pace?: number
  /** One for all, or one for each set of headers. */
  body?: string | string[] | undefined
}

/** Loads a URL on loopback with so many connections for so long. `@unique` as a header's value becomes another one each time. */
export function load(url: string, plan: Omit<Plan, 'url'>): Promise<Load> {
  return new Promise((resolve, reject) => {
    const child = fork(import.meta.filename, { execArgv: [] })
    child.once('message', (result) => resolve(result as Load))
    child.once('error', reject)
    child.send({ url, ...plan })
  })
}

function once(plan: Plan, agent: Agent, serial: number): Promise<{ status: number; text: string }> {
  const turn = Array.isArray(plan.headers) ? plan.headers[serial % plan.headers.length]! : plan.headers
  const headers: Record<string, string> = Object.fromEntries(
    Object.entries(turn).map(([name, value]) => [name, value === '@unique' ? `${process.pid}-${serial}` : value]),
  )
  const body = Array.isArray(plan.body) ? plan.body[serial % plan.body.length] : plan.body
  if (body) headers['content-length'] = String(Buffer.byteLength(body))
  return new Promise((resolve, reject) => {
    const call = request(plan.url, { agent, method: body ? 'POST' : 'GET', headers }, (response) => {
      let text = ''
      response.on('data', (chunk: Buffer) => {
        if (text.length < 300) text += chunk.toString()
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
    })
    call.once('error', reject)
    call.end(body)
  })
}

async function run(plan: Plan): Promise<Load> {
  const agent = new Agent({ keepAlive: true, maxSockets: plan.connections })
  const took: number[] = []
  let errors = 0
  let firstError = ''
  let serial = 0
  const start = performance.now()
  const until = start + plan.seconds * 1000
  await Promise.all(
    Array.from({ length: plan.connections }, async (_, connection) => {
      for (let round = 0; performance.now() < until; round++) {
        const due = plan.pace ? start + ((round * plan.connections + connection) * 1000) / plan.pace : 0
        if (due > performance.now()) await setTimeout(due - performance.now())
        const began = due || performance.now()
        const { status, text } = await once(plan, agent, serial++)
        took.push(performance.now() - began)
        if (status >= 400) {
          errors++
          firstError ||= text
        }
      }
    }),
  )
  const seconds = (performance.now() - start) / 1000
  agent.destroy()
  took.sort((a, b) => a - b)
  const at = (share: number) => took[Math.floor(took.length * share)] ?? 0
  return { requests: took.length, errors, firstError, rate: took.length / seconds, p50: at(0.5), p99: at(0.99) }
}

if (process.send) {
  process.once('message', (plan) => {
    void run(plan as Plan).then((result) => process.send!(result, () => process.exit(0)))
  })
}
