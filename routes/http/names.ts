import type { FastifyRequest } from 'fastify'
import { namesOf } from '../../domain/identity/index.ts'
import { systemScope } from '../../domain/kernel/index.ts'

/** Entries of the trail with people's names as they are now: the trail itself holds their ids alone. */
export async function withNames<T extends { actor_id: string | null; actor_name: string | null }>(
  request: FastifyRequest,
  entries: readonly T[],
): Promise<T[]> {
  const ids = entries.flatMap(({ actor_id }) => actor_id ?? [])
  const { control } = request.server.services.planes
  const names = await control.read(systemScope(request.tenant.id, 'names', request.id), (tx) => namesOf(tx, ids))
  return entries.map((entry) => ({ ...entry, actor_name: entry.actor_name ?? names.get(entry.actor_id ?? '') ?? null }))
}
