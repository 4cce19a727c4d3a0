// The OpenID Connect client: authorization code with PKCE (RFC 7636), by the certified library.
import {
  allowInsecureRequests,
  authorizationCodeGrant,
  buildAuthorizationUrl,
  ClientSecretPost,
  type Configuration,
  type CustomFetch,
  calculatePKCECodeChallenge,
  customFetch,
  discovery,
  enableNonRepudiationChecks,
  fetchUserInfo,
  None,
  randomNonce,
  randomPKCECodeVerifier,
} from 'openid-client'
import { failure } from '../kernel/index.ts'
import type { Vouched } from './sso-admission.ts'

const TIMEOUT_SECONDS = 10
const CACHE_MS = 600_000
const MAX_CACHED = 1_000

export interface Provider {
  id: string
  version: number
  issuer: string
  client_id: string
  groups_claim: string
  scopes: readonly string[]
}

/** Talks to providers, and keeps what they say of themselves for ten minutes. */
export class OpenIdClient {
  readonly #fetch: CustomFetch
  readonly #insecure: boolean
  readonly #configurations = new Map<string, { configuration: Promise<Configuration>; until: number }>()

  /**
   * @param fetch refuses addresses inside our own network: the issuer is written by a tenant
   * @param insecure lets a provider answer over http, as in development
   */
  constructor(fetch: CustomFetch, insecure: boolean) {
    this.#fetch = fetch
    this.#insecure = insecure
  }

  #configuration(provider: Provider, secret: string | null): Promise<Configuration> {
    const key = `${provider.id} ${provider.version}`
    const known = this.#configurations.get(key)
    if (known && known.until > Date.now()) return known.configuration
    if (this.#configurations.size >= MAX_CACHED) this.#configurations.clear()
    const configuration = discovery(new URL(provider.issuer), provider.client_id, undefined, secret ? ClientSecretPost(secret) : None(), {
      timeout: TIMEOUT_SECONDS,
      [customFetch]: this.#fetch,
      // By default the library trusts TLS to the token endpoint and leaves the signature of the ID token unread.
      execute: [enableNonRepudiationChecks, ...(this.#insecure ? [allowInsecureRequests] : [])],
    })
    this.#configurations.set(key, { configuration, until: Date.now() + CACHE_MS })
    configuration.catch(() => this.#configurations.delete(key))
    return configuration
  }

  /** Builds the address to send the browser to; `state` keeps the secrets until it is back. Throws `sso_failed`. */
  async begin(
    provider: Provider,
    secret: string | null,
    redirectUri: string,
    state: (secrets: { verifier: string; nonce: string }) => Promise<string>,
  ): Promise<URL> {
    const configuration = await this.#configuration(provider, secret).catch((error) => {
      throw ssoFailure(error)
    })
    const verifier = randomPKCECodeVerifier()
    const nonce = randomNonce()
    return buildAuthorizationUrl(configuration, {
      redirect_uri: redirectUri,
      scope: [...new Set(['openid', ...provider.scopes])].join(' '),
      code_challenge: await calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
      nonce,
      state: await state({ verifier, nonce }),
    })
  }

  /**
   * Exchanges the code and reads the ID token, whose signature, issuer, audience, nonce and time are checked, and UserInfo where
   * the ID token has no address. Throws `sso_failed`.
   */
  async finish(
    provider: Provider,
    secret: string | null,
    callback: URL,
    { verifier, nonce, state }: { verifier: string; nonce: string; state: string },
  ): Promise<Vouched> {
    try {
      const configuration = await this.#configuration(provider, secret)
      const tokens = await authorizationCodeGrant(configuration, callback, {
        pkceCodeVerifier: verifier,
        expectedNonce: nonce,
        expectedState: state,
        idTokenExpected: true,
      })
      const idToken = tokens.claims()!
      // A provider that keeps to OpenID Connect Core 5.4 puts the scopes' claims into UserInfo alone. One source says both the
      // address and whether it is verified: they are never taken from two.
      const claims: Record<string, unknown> =
        idToken.email === undefined && configuration.serverMetadata().userinfo_endpoint
          ? { ...(await fetchUserInfo(configuration, tokens.access_token, idToken.sub)), sub: idToken.sub }
          : idToken
      const groups = claims[provider.groups_claim] ?? idToken[provider.groups_claim]
      return {
        subject: idToken.sub,
        email: String(claims.email ?? ''),
        emailVerified: verifiedClaim(claims.email_verified),
        name: String(claims.name ?? claims.email ?? ''),
        groups: Array.isArray(groups) ? groups.map(String) : typeof groups === 'string' ? [groups] : [],
      }
    } catch (error) {
      throw ssoFailure(error)
    }
  }
}

/**
 * `email_verified` of OpenID Connect Core 5.1 is a boolean; some providers send it as text. Null where it is missing; anything
 * but `true` is not verified.
 */
const verifiedClaim = (claim: unknown): boolean | null =>
  claim === undefined || claim === null ? null : claim === true || claim === 'true'

/** The library's codes are for operators; the user is told a reason that they can act on. */
function ssoFailure(error: unknown) {
  const { code, error: said } = error as { code?: string; error?: string }
  const reason = said ?? (code?.startsWith('OAUTH_') ? code.toLowerCase() : 'provider_unreachable')
  const refused = failure('sso_failed', { reason })
  refused.cause = error
  return refused
}
