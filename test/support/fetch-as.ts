// `fetch` to a process on loopback under a tenant's host name, which Node's own `fetch` does not let one set.
import { request } from 'undici'

/** Sends a request whose Host header is `host`. */
export async function fetchAs(
  host: string,
  url: string,
  init: Omit<RequestInit, 'headers'> & { headers?: Record<string, string> } = {},
): Promise<Response> {
  const { statusCode, headers, body } = await request(url, {
    method: (init.method ?? 'GET') as 'GET',
    headers: { ...init.headers, host },
    ...(init.body === undefined || init.body === null ? {} : { body: init.body as string }),
    ...(init.signal ? { signal: init.signal } : {}),
  })
  const text = await body.text()
  const answer = new Headers(Object.entries(headers).map(([name, value]) => [name, String(value)] as [string, string]))
  return new Response(statusCode === 204 || statusCode === 304 ? null : text, { status: statusCode, headers: answer })
}
