// The connection to Redis: bounded, so that a server that freezes stops nothing here.
import { Redis } from 'ioredis'

/** A command is given up after this time, in ms; requests wait less (plugins/shared-counters.ts). */
const COMMAND_MS = 2_000
const CONNECT_MS = 2_000

/**
 * Opens a client that never queues while Redis is away and never repeats what was in flight when a connection ended: a
 * counter would be raised twice. A server that accepts connections and answers nothing does not pass the client's own
 * check (`INFO`, given up after two seconds), so that the client is not `ready` and nothing is asked of it.
 */
export const openRedis = (url: string): Redis =>
  new Redis(url, {
    commandTimeout: COMMAND_MS,
    connectTimeout: CONNECT_MS,
    maxRetriesPerRequest: 1,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    retryStrategy: (times) => Math.min(2_000, 100 * times),
    lazyConnect: true,
  })
