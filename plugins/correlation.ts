import fp from 'fastify-plugin'
import { newId } from '../domain/kernel/index.ts'

const VALID = /^[A-Za-z0-9._:-]{1,128}$/

/** The id that ties a request to its log lines, its rows in the trail and its events: a valid incoming one is kept. */
export const correlationIdOf = (header: string | string[] | undefined): string =>
  typeof header === 'string' && VALID.test(header) ? header : newId()

/** Sends the id back, and logs one line for each answer. */
export default fp(
  async (app) => {
    app.addHook('onRequest', (request, reply, done) => {
      reply.header('x-correlation-id', request.id)
      done()
    })
    app.addHook('onResponse', (request, reply, done) => {
      done()
      if (request.routeOptions.url === '/health') return
      request.log.info(
        {
          method: request.method,
          url: request.url.split('?')[0],
          status: reply.statusCode,
          milliseconds: Math.round(reply.elapsedTime * 10) / 10,
        },
        'request',
      )
    })
  },
  { name: 'correlation' },
)
