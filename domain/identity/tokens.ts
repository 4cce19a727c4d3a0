// What the tokens say that we sign. They are verified by the session plugin.
import { SignJWT } from 'jose'
import { newId } from '../kernel/index.ts'
import type { SignedIn } from './sessions.ts'
import type { SigningKeys } from './signing-keys.ts'

export const ISSUER = 'tenantry'
/** The audience of service tokens; no tenant's token has it. */
export const SERVICE_AUDIENCE = 'internal'
export const ACCESS_SECONDS = 900
const SERVICE_SECONDS = 300

/** Signs off the main thread: RSA takes half a millisecond. */
function sign(keys: SigningKeys, claims: Record<string, unknown>, audience: string, subject: string, seconds: number): Promise<string> {
  const { kid, privateKey } = keys.current
  return new SignJWT(claims)
    .setProtectedHeader({ alg: 'RS256', kid, typ: 'JWT' })
    .setIssuer(ISSUER)
    .setAudience(audience)
    .setSubject(subject)
    .setIssuedAt()
    .setExpirationTime(`${seconds}s`)
    .sign(privateKey)
}

/**
 * An access token for a session, for its tenant alone; of 15 minutes where the session can be refreshed. With `staffId` the
 * claim `act` names the staff member who acts in the user's place (RFC 8693, 4.1).
 */
export const accessToken = (
  keys: SigningKeys,
  tenantId: string,
  { sessionId, user, context }: Pick<SignedIn, 'sessionId' | 'user' | 'context'>,
  seconds: number = ACCESS_SECONDS,
  staffId?: string,
): Promise<string> =>
  sign(
    keys,
    {
      tenant_id: tenantId,
      session_id: sessionId,
      organization_id: context.organizationId,
      workspace_id: context.workspaceId,
      kind: user.kind,
      jti: newId(),
      ...(staffId ? { act: { sub: staffId } } : {}),
    },
    tenantId,
    user.id,
    seconds,
  )

/** A token for a part of the system, good for five minutes and for `/internal` alone. */
export const serviceToken = (keys: SigningKeys, service: string): Promise<string> =>
  sign(keys, { kind: 'service', jti: newId() }, SERVICE_AUDIENCE, service, SERVICE_SECONDS)
