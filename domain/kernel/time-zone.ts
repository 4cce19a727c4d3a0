import { Type } from 'typebox'
import { failure } from './errors.ts'

export const TimeZone = Type.String({ maxLength: 64, description: 'IANA name', examples: ['Europe/Madrid'] })

/** Throws `invalid_value` for what is no name of a time zone. An offset is none: PostgreSQL reads its sign the other way round. */
export function requireTimeZone(name: string, path: string): void {
  try {
    if (!/^[A-Za-z]/.test(name)) throw new RangeError()
    new Intl.DateTimeFormat('en', { timeZone: name })
  } catch {
    throw failure('invalid_value', { path, rule: 'time_zone', message: 'is an IANA name such as Europe/Madrid' })
  }
}
