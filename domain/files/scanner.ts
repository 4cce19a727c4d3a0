// Asks clamd whether bytes are harmful, by its own protocol: https://docs.clamav.net/manual/Usage/Scanning.html#clamd
import { connect } from 'node:net'
import type { Readable } from 'node:stream'

export interface Verdict {
  clean: boolean
  /** What was found. */
  finding: string | null
}
/** Throws where the scanner cannot be asked. */
export type Scan = (bytes: Readable) => Promise<Verdict>

/** A scanner at `host:port`, given up after this silence, in ms. */
export const clamd = (address: string, silenceMs = 30_000): Scan => {
  const at = address.lastIndexOf(':')
  const [host, port] = [address.slice(0, at), Number(address.slice(at + 1))]
  return (bytes) =>
    new Promise((resolve, reject) => {
      const socket = connect({ host, port })
      let answer = ''
      const fail = (error: Error) => {
        bytes.destroy()
        socket.destroy()
        reject(error)
      }
      socket.setTimeout(silenceMs, () => fail(new Error('the scanner does not answer')))
      socket.on('error', fail)
      bytes.on('error', fail)
      socket.on('data', (part) => {
        answer += part.toString('utf8')
      })
      socket.on('close', () => {
        const text = answer.replaceAll('\0', '').trim()
        const found = text.match(/^stream: (.+) FOUND$/)
        if (found) resolve({ clean: false, finding: found[1]! })
        else if (text === 'stream: OK') resolve({ clean: true, finding: null })
        else reject(new Error(`the scanner answered: ${text || 'nothing'}`))
      })
      // `INSTREAM` takes chunks, each with its length before it, and an empty one at the end.
      socket.write('zINSTREAM\0')
      bytes.on('data', (chunk: Buffer) => {
        const length = Buffer.alloc(4)
        length.writeUInt32BE(chunk.length)
        socket.write(length)
        if (!socket.write(chunk)) {
          bytes.pause()
          socket.once('drain', () => bytes.resume())
        }
      })
      bytes.on('end', () => socket.write(Buffer.alloc(4)))
    })
}
