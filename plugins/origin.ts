// Origins: which pages may call a tenant's API from a browser.
import type { FastifyRequest } from 'fastify'
import type { Services } from './services.ts'

type OriginSettings = Pick<Services['settings'], 'development' | 'publicUrl'>

/**
 * The origins of a tenant's pages: scheme, name and port, where PUBLIC_URL says that its pages are, for the host that was
 * asked and for each of the tenant's own domains. In development also the very host and port that were asked, by http or
 * https; a page of a development server on another port is named by PUBLIC_URL.
 * @param host canonical, with its port (plugins/host.ts)
 */
export function originsOf({ development, publicUrl }: OriginSettings, host: string, domains: readonly string[]): string[] {
  const names = [host.replace(/:\d+$/, ''), ...domains].filter((name) => name !== '')
  const own = names.map((name) => new URL(publicUrl.replace('{host}', name)).origin)
  return development && host !== '' ? [...own, `http://${host}`, `https://${host}`] : own
}

/** Whether an Origin header, exactly as a browser serializes it, is one of the tenant's origins. `null` is none. */
export function originAllowed(settings: OriginSettings, origin: string, host: string, domains: readonly string[]): boolean {
  if (!URL.canParse(origin)) return false
  const { origin: whole } = new URL(origin)
  // No user, path or default port: an origin has one serialization.
  if (whole !== origin.toLowerCase()) return false
  return whole !== 'null' && originsOf(settings, host, domains).some((own) => new URL(own).origin === whole)
}

/** Origins of the tenant that a request is for. */
export const originsFor = ({ host, tenant, server }: FastifyRequest): string[] => originsOf(server.services.settings, host, tenant.domains)
