// An Apache Kafka of a test's own, which it may take away.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { newId } from '../../domain/kernel/index.ts'
import type { Runtime } from '../../server/runtime.ts'
import { createTopics, type TopicDeclaration } from '../../workers/kafka.ts'
import { testServices } from './services.ts'

/** Apache Kafka's own libraries, where .ci/services has fetched them. */
const libraries = process.env.KAFKA_LIBRARIES
/** Why there is no broker of one's own; false where there is one. */
export const noOwnBroker = libraries ? false : 'NO APACHE KAFKA TO START: that it goes away was not tested'

export interface OwnBroker {
  brokers: string
  /** Starts it, or starts it again with what it had; it answers a few seconds later. */
  start(): Promise<void>
  /** `kill -9`. */
  kill(): Promise<void>
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** Makes ready a broker of one process, which is killed at the end. */
export async function ownBroker(t: { teardown(work: () => unknown): void }): Promise<OwnBroker> {
  const folder = mkdtempSync(path.join(tmpdir(), 'tenantry-kafka-'))
  const [port, controller] = [await freePort(), await freePort()]
  const listeners = `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller}`
  const properties = path.join(folder, 'server.properties')
  const settings = {
    'process.roles': 'broker,controller',
    'node.id': 1,
    'controller.quorum.bootstrap.servers': `127.0.0.1:${controller}`,
    'controller.listener.names': 'CONTROLLER',
    listeners,
    'advertised.listeners': listeners,
    'log.dirs': path.join(folder, 'data'),
    'offsets.topic.replication.factor': 1,
    'offsets.topic.num.partitions': 4,
    'transaction.state.log.replication.factor': 1,
    'transaction.state.log.min.isr': 1,
    'group.initial.rebalance.delay.ms': 0,
  }
  writeFileSync(
    properties,
    Object.entries(settings)
      .map((setting) => setting.join('='))
      .join('\n'),
  )
  const log = openSync(path.join(folder, 'broker.log'), 'a')
  const java = (...rest: string[]) => spawn('java', ['-Xmx256m', '-cp', `${libraries}/*`, ...rest], { stdio: ['ignore', log, log] })
  const cluster = Buffer.from(newId().replaceAll('-', ''), 'hex').toString('base64url')
  const [code] = await once(java('kafka.tools.StorageTool', 'format', '--standalone', '-t', cluster, '-c', properties), 'exit')
  if (code !== 0) throw new Error(`Kafka's folder was not made ready: ${code}`)
  let broker: ChildProcess | undefined
  const kill = async () => {
    if (!broker) return
    const gone = once(broker, 'exit')
    broker.kill('SIGKILL')
    await gone
    broker = undefined
  }
  t.teardown(async () => {
    await kill()
    rmSync(folder, { recursive: true, force: true })
  })
  return {
    brokers: `127.0.0.1:${port}`,
    start: async () => {
      broker = java('kafka.Kafka', properties)
    },
    kill,
  }
}

/** Creates topics. The embedded broker creates one with its first message, and lets `createTopics` wait for its timeout. */
export const makeTopics = ({ kafka, producer }: Runtime, topics: readonly TopicDeclaration[]): Promise<void> =>
  testServices().realBroker
    ? createTopics(kafka, topics, 1)
    : producer.send(topics.map(({ topic }) => ({ topic, key: '', value: 'none of the messages that are sent' })))
