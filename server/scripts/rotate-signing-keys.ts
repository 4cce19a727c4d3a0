import { Type } from 'typebox'
import { kidOf, rotateSigningKeys } from '../../domain/identity/index.ts'
import { sql } from '../../domain/kernel/index.ts'
import { defineScript } from '../define-script.ts'

const Known = Type.Object({ kid: Type.String() })

export default defineScript({
  name: 'rotate-signing-keys',
  description:
    'Publishes a new signing key now and signs with it in ten minutes; nobody notices. With --emergency it signs at once and every other key is revoked: access tokens end at the next request, sessions go on with the next refresh.',
  flags: ['--emergency'],
  async run({ config, vault, flags, queries, now, say }) {
    const stored = await queries.any(sql.type(Known)`select kid from platform_signing_keys where revoked_at is null`)
    const others = [...stored.map(({ kid }) => kid), ...config.JWT_KEYS.map(kidOf)]
    const emergency = flags.has('--emergency')
    const kid = await rotateSigningKeys(queries, vault, now, emergency ? others : null)
    say(emergency ? `${kid} signs from now on; ${others.length} other keys are revoked` : `${kid} is published and signs in ten minutes`)
    return 1 + (emergency ? others.length : 0)
  },
})
