// A reader of Server-Sent Events, as a browser is one.
import { type IncomingMessage, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'

export interface Told {
  event: string
  // biome-ignore lint/suspicious/noExplicitAny: whatever the event carries
  data: any
}

export class EventReader {
  readonly told: Told[] = []
  /** Of the last block that had one. */
  lastId = ''
  status = 0
  /** What an answer that is no stream said. */
  refusal = ''
  ended = false
  #settled = 0
  readonly #response: Promise<IncomingMessage>
  readonly #cut: () => void

  /** @param how an access token, and what is asked; with `lastId` he goes on from there */
  constructor(app: FastifyInstance, host: string, { token, query = '', lastId = '' }: { token: string; query?: string; lastId?: string }) {
    const { port } = app.server.address() as AddressInfo
    const headers = { host, authorization: `Bearer ${token}`, ...(lastId ? { 'last-event-id': lastId } : {}) }
    const asking = request({ host: '127.0.0.1', port, path: `/api/v1/events/stream${query}`, headers, agent: false })
    this.#cut = () => asking.destroy()
    this.#response = new Promise((resolve, reject) => {
      asking.on('response', resolve)
      asking.on('error', reject)
    })
    asking.end()
    this.#response.then(
      (response) => this.#read(response),
      () => {
        this.ended = true
      },
    )
  }

  #read(response: IncomingMessage): void {
    this.status = response.statusCode!
    let text = ''
    response.setEncoding('utf8')
    response.on('data', (piece: string) => {
      if (this.status !== 200) {
        this.refusal += piece
        return
      }
      text += piece
      const blocks = text.split('\n\n')
      text = blocks.pop()!
      for (const block of blocks) this.#take(block)
    })
    response.on('close', () => {
      this.ended = true
    })
    response.on('error', () => {})
  }

  #take(block: string): void {
    const field = (name: string) =>
      block
        .split('\n')
        .find((line) => line.startsWith(`${name}: `))
        ?.slice(name.length + 2)
    const [event, data, id] = [field('event'), field('data'), field('id')]
    if (event !== undefined && data !== undefined) this.told.push({ event, data: JSON.parse(data) })
    if (id === undefined) return
    this.lastId = id
    this.#settled = this.told.length
  }

  /** What was told up to the last id: the rest comes again to who goes on from there. */
  toldUntilLastId(): Told[] {
    return this.told.slice(0, this.#settled)
  }

  /** Reads no further for now. */
  async pause(): Promise<void> {
    ;(await this.#response).pause()
  }

  /** When he is there and has a place to go on from. */
  async ready(): Promise<this> {
    await this.until(() => this.lastId !== '' || (this.status !== 0 && this.status !== 200) || this.ended)
    return this
  }

  async until(right: () => boolean, seconds = 10): Promise<void> {
    const end = Date.now() + seconds * 1000
    while (!right()) {
      if (Date.now() > end) throw new Error(`waited in vain; told: ${JSON.stringify(this.told).slice(0, 1000)}`)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }

  close(): void {
    this.#cut()
  }
}
