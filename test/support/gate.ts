// A TCP door in front of a real service, so that a test can take the service away in mid-flight and give it back.
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'

export interface Gate {
  /** The service's URL, through the gate. */
  url: string
  /** Cuts every connection and refuses new ones. */
  shut(): Promise<void>
  /** Lets connections through again, at the same address. */
  open(): Promise<void>
  /** From the next connection on it leads to another address: the service has come back somewhere else. */
  lead(serviceUrl: string): void
  /** Called with what the service says before it is passed on; true keeps it from the client. */
  watch: ((fromService: Buffer) => boolean) | undefined
}

interface Teardown {
  teardown(work: () => unknown): void
}

/** Opens a gate in front of the service that a URL names. */
export async function openGate(t: Teardown, serviceUrl: string): Promise<Gate> {
  let target = new URL(serviceUrl)
  const sockets = new Set<Socket>()
  let server: Server | undefined
  let port = 0

  const keep = (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
  }
  async function open(): Promise<void> {
    server = createServer((client) => {
      const service = connect(Number(target.port), target.hostname)
      keep(client)
      keep(service)
      client.pipe(service)
      service.on('data', (bytes) => {
        if (!gate.watch?.(bytes)) client.write(bytes)
      })
      client.on('close', () => service.destroy())
      service.on('close', () => client.destroy())
    }).listen(port, '127.0.0.1')
    await once(server, 'listening')
    port = (server.address() as { port: number }).port
  }
  async function shut(): Promise<void> {
    const closed = server && new Promise((resolve) => server?.close(resolve))
    for (const socket of sockets) socket.destroy()
    await closed
    server = undefined
  }

  const lead = (url: string) => {
    target = new URL(url)
  }
  const gate: Gate = { url: '', shut, open, lead, watch: undefined }
  await open()
  const through = new URL(serviceUrl)
  through.hostname = '127.0.0.1'
  through.port = String(port)
  gate.url = through.href
  t.teardown(shut)
  return gate
}
