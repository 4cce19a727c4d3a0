import { createHash, timingSafeEqual } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import type { Registry } from 'prom-client'
import type { Config } from './config.ts'

/** Compared by hash, so that neither the content nor the length of the token shows in the time. */
const sameText = (one: string, other: string): boolean => {
  const hash = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(hash(one), hash(other))
}

/** Serves /metrics on a port of its own, to those who send METRICS_TOKEN where there is one. */
export function serveMetrics(
  registry: Registry,
  { METRICS_HOST: host, METRICS_TOKEN: token }: Pick<Config, 'METRICS_HOST' | 'METRICS_TOKEN'>,
  port: number,
): Promise<Server> {
  const server = createServer((request, response) => {
    if (request.url !== '/metrics') {
      response.writeHead(404).end()
      return
    }
    if (token !== undefined && !sameText(request.headers.authorization ?? '', `Bearer ${token}`)) {
      response.writeHead(401, { 'www-authenticate': 'Bearer' }).end()
      return
    }
    registry.metrics().then(
      (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
      () => response.writeHead(500).end(),
    )
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => resolve(server))
  })
}
