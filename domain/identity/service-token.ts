import { importPKCS8, SignJWT } from 'jose'
import type { SigningKeys } from './signing-keys.ts'

/** The audience of service tokens; no tenant's token has it. */
export const SERVICE_AUDIENCE = 'internal'
const MINUTES = 5

/** A token for a part of the system, good for five minutes and for `/internal` alone. */
export async function serviceToken(keys: SigningKeys, service: string): Promise<string> {
  const { kid, privatePem } = keys.current
  return new SignJWT({ kind: 'service' })
    .setProtectedHeader({ alg: 'RS256', kid, typ: 'JWT' })
    .setIssuer('tenantry')
    .setAudience(SERVICE_AUDIENCE)
    .setSubject(service)
    .setIssuedAt()
    .setExpirationTime(`${MINUTES}m`)
    .sign(await importPKCS8(privatePem, 'RS256'))
}
