import { v7 } from 'uuid'

export type Uuid = string

// Asking the system for 16 bytes at a time costs more than everything else about an id, so they are drawn in pages.
const page = new Uint8Array(4096)
let used = page.length

function random16(): Uint8Array {
  if (used === page.length) {
    crypto.getRandomValues(page)
    used = 0
  }
  used += 16
  return page.subarray(used - 16, used)
}

let milliseconds = 0
let sequence = 0

/**
 * A UUIDv7 (RFC 9562): made in the application, sortable by time, so that indexes grow at their right edge. Ids of one
 * process ascend within a millisecond too, by a counter that begins at a random place (method 1 of section 6.2).
 */
export function newId(): Uuid {
  const random = random16()
  const now = Date.now()
  if (now > milliseconds) {
    milliseconds = now
    sequence = ((random[6]! & 0x7f) << 24) | (random[7]! << 16) | (random[8]! << 8) | random[9]!
  } else {
    sequence = (sequence + 1) | 0
    if (sequence === 0) milliseconds++
  }
  return v7({ random, msecs: milliseconds, seq: sequence })
}

/** Whether a text has the form of an id. */
export const isUuid = (text: string): boolean => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)
