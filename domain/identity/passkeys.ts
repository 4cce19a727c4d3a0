// Passkeys (WebAuthn level 2): a second factor, or, where the authenticator checked its user itself, the whole sign-in.
import {
  type AuthenticationResponseJSON,
  generateAuthenticationOptions,
  generateRegistrationOptions,
  type PublicKeyCredentialCreationOptionsJSON,
  type PublicKeyCredentialRequestOptionsJSON,
  type RegistrationResponseJSON,
  verifyAuthenticationResponse,
  verifyRegistrationResponse,
} from '@simplewebauthn/server'
import { Type } from 'typebox'
import { failure, newId, sql, type Tx, Uuid } from '../kernel/index.ts'
import { consumeToken, issueToken } from './one-time-tokens.ts'

/** Where a ceremony takes place: the tenant's host, and the origins that its pages may have. */
export interface RelyingParty {
  id: string
  name: string
  origins: string[]
}

const Credential = Type.Object(
  { id: Uuid, user_id: Uuid, credential_id: Type.String(), public_key: Type.String(), counter: Type.Integer() },
  { additionalProperties: false },
)

const credentialIds = async (tx: Tx, userId: string) =>
  (
    await tx.any(sql.prepared(Type.Object({ credential_id: Type.String() }))`
    select credential_id from res_user_mfa where tenant_id = ${tx.tenantId} and user_id = ${userId} and kind = 'webauthn' limit 50`)
  ).map(({ credential_id }) => ({ id: credential_id }))

/** Begins to add a passkey to the actor's account. `ceremony` comes back with the authenticator's answer. */
export async function beginRegistration(
  tx: Tx,
  party: RelyingParty,
  user: { email: string; name: string },
): Promise<{ ceremony: string; options: PublicKeyCredentialCreationOptionsJSON }> {
  const options = await generateRegistrationOptions({
    rpName: party.name,
    rpID: party.id,
    userID: new TextEncoder().encode(tx.actor.userId!) as Uint8Array<ArrayBuffer>,
    userName: user.email,
    userDisplayName: user.name,
    attestationType: 'none',
    excludeCredentials: await credentialIds(tx, tx.actor.userId!),
    authenticatorSelection: { residentKey: 'preferred', userVerification: 'preferred' },
  })
  return { ceremony: await issueToken(tx, 'webauthn', tx.actor.userId, { challenge: options.challenge, does: 'register' }), options }
}

/** Keeps the new passkey. Throws `invalid_challenge` or `invalid_passkey`. */
export async function finishRegistration(
  tx: Tx,
  party: RelyingParty,
  ceremony: string,
  response: RegistrationResponseJSON,
  label: string | null,
): Promise<string> {
  const begun = await consumeToken(tx, 'webauthn', ceremony)
  if (!begun || begun.user_id !== tx.actor.userId || begun.data.does !== 'register') throw failure('invalid_challenge')
  const { verified, registrationInfo } = await verifyRegistrationResponse({
    response,
    expectedChallenge: String(begun.data.challenge),
    expectedOrigin: party.origins,
    expectedRPID: party.id,
    requireUserVerification: false,
  }).catch(() => ({ verified: false, registrationInfo: undefined }))
  if (!verified || !registrationInfo) throw failure('invalid_passkey')
  const { credential } = registrationInfo
  const id = newId()
  await tx.query(sql.run`
    insert into res_user_mfa (id, tenant_id, user_id, kind, label, credential_id, public_key, counter, confirmed_at)
    values (${id}, ${tx.tenantId}, ${tx.actor.userId}, 'webauthn', ${label}, ${credential.id}, decode(${Buffer.from(credential.publicKey).toString('hex')}, 'hex'),
      ${credential.counter}, ${tx.now.toISOString()})`)
  return id
}

/** Begins to sign in: with one of this user's passkeys, or, where nobody is named, with any that the device offers. */
export async function beginAuthentication(
  tx: Tx,
  party: RelyingParty,
  userId: string | null,
  does: 'authenticate' | 'step_up' = 'authenticate',
): Promise<{ ceremony: string; options: PublicKeyCredentialRequestOptionsJSON }> {
  const options = await generateAuthenticationOptions({
    rpID: party.id,
    userVerification: userId ? 'preferred' : 'required',
    ...(userId ? { allowCredentials: await credentialIds(tx, userId) } : {}),
  })
  return { ceremony: await issueToken(tx, 'webauthn', userId, { challenge: options.challenge, does }), options }
}

/**
 * Returns the user whose passkey answered. A ceremony is good for what it was begun for: a sign-in or a step-up. Used alone, the authenticator must have checked its user (PIN, finger): then it is two factors
 * in one. An answer that was accepted once is accepted no more. Throws `invalid_challenge` or `invalid_passkey`.
 */
export async function finishAuthentication(
  tx: Tx,
  party: RelyingParty,
  ceremony: string,
  response: AuthenticationResponseJSON,
  alone: boolean,
  does: 'authenticate' | 'step_up' = 'authenticate',
): Promise<string> {
  const begun = await consumeToken(tx, 'webauthn', ceremony)
  if (begun?.data.does !== does || alone !== (begun.user_id === null)) throw failure('invalid_challenge')
  // The row is locked, so that a copied authenticator's counter cannot be used twice at once.
  const credential = await tx.maybeOne(sql.prepared(Credential)`
    select id, user_id, credential_id, encode(public_key, 'hex') as public_key, counter from res_user_mfa
    where tenant_id = ${tx.tenantId} and credential_id = ${response.id} and kind = 'webauthn' for update`)
  if (!credential || (begun.user_id && credential.user_id !== begun.user_id)) throw failure('invalid_passkey')
  const { verified, authenticationInfo } = await verifyAuthenticationResponse({
    response,
    expectedChallenge: String(begun.data.challenge),
    expectedOrigin: party.origins,
    expectedRPID: party.id,
    requireUserVerification: alone,
    credential: {
      id: credential.credential_id,
      publicKey: new Uint8Array(Buffer.from(credential.public_key, 'hex')),
      counter: credential.counter,
    },
  }).catch(() => ({ verified: false, authenticationInfo: undefined }))
  if (!verified || !authenticationInfo) throw failure('invalid_passkey')
  await tx.query(sql.run`
    update res_user_mfa set counter = ${authenticationInfo.newCounter}, used_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${credential.id}`)
  return credential.user_id
}
