// A scanner for runs without a real one: speaks clamd's INSTREAM and knows the EICAR test file alone.

import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'

/** What every scanner takes for harmful, and is not: https://www.eicar.org. Put together here, so that no scanner takes this file for it. */
export const EICAR = ['X5O!P%@AP[4\\PZX54(P^)7CC)7}$', 'EICAR-STANDARD-ANTIVIRUS-TEST-FILE', '!$H+H*'].join('')

/** Starts it, or names the real one of this run. */
export async function testScanner(t: { teardown(work: () => unknown): void }): Promise<string> {
  if (process.env.CLAMD_ADDRESS) return process.env.CLAMD_ADDRESS
  const server = createServer((socket) => {
    let bytes = Buffer.alloc(0)
    socket.on('error', () => {})
    socket.on('data', (part: Buffer) => {
      bytes = Buffer.concat([bytes, part])
      if (!bytes.subarray(-4).equals(Buffer.alloc(4))) return
      socket.end(bytes.includes(EICAR) ? 'stream: Eicar-Test-Signature FOUND\0' : 'stream: OK\0')
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}
