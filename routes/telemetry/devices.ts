// Devices, what they are, and the keys by which they are believed.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { Uuid } from '../../domain/kernel/index.ts'
import {
  annotations,
  calibrations,
  DeviceKey,
  derivedMetrics,
  deviceKeys,
  deviceProfiles,
  devices,
  IssuedKey,
  issueDeviceKeys,
  KeysWanted,
  metrics,
  Replaced,
  Replacement,
  ReplacementWanted,
  Rotation,
  replaceDevice,
  replacementsOf,
  revokeDeviceKey,
  rotateDeviceKey,
} from '../../domain/telemetry/index.ts'
import { guarded, mutation, ok } from '../http/envelope.ts'
import { Id } from '../http/reading-routes.ts'
import { resourceRoutes } from '../http/resource-routes.ts'

const tags = ['devices']
const module = 'telemetry.devices'
const plane = 'telemetry'

/** An answer with secrets: a replay must not show them again, as they would have to be stored in the clear. */
const shownOnce = (request: FastifyRequest, reply: FastifyReply) => {
  request.once = undefined
  reply.status(201).header('cache-control', 'no-store')
}

export default async function deviceRoutes(app: FastifyInstance) {
  await app.register(resourceRoutes(devices, { plane }))
  await app.register(resourceRoutes(deviceProfiles, { plane }))
  await app.register(resourceRoutes(metrics, { plane, readLevel: 'shared' }))
  await app.register(resourceRoutes(derivedMetrics, { plane, readLevel: 'shared' }))
  await app.register(resourceRoutes(annotations, { plane }))
  await app.register(resourceRoutes(calibrations, { plane }))

  app.post<{ Body: Static<typeof KeysWanted> }>(
    '/telemetry/devices/keys',
    {
      level: 'organization',
      permission: 'telemetry.device.issue_key',
      notImpersonated: true,
      module,
      plane,
      schema: {
        tags,
        summary: 'Issue a key to each of many devices; they are shown once',
        body: KeysWanted,
        response: { 201: ok(Type.Array(IssuedKey)), ...mutation('not_found') },
      },
    },
    async (request, reply) => {
      shownOnce(request, reply)
      return { data: await request.write((tx) => issueDeviceKeys(tx, request.body.device_ids)) }
    },
  )

  app.get<{ Params: { id: string } }>(
    '/telemetry/devices/:id/keys',
    {
      level: 'organization',
      permission: 'telemetry.device.read',
      module,
      plane,
      schema: {
        tags,
        summary: 'The keys of a device, without what they are',
        params: Id,
        response: { 200: ok(Type.Array(DeviceKey)), ...guarded('not_found') },
      },
    },
    async (request) => ({ data: await request.read((tx) => deviceKeys(tx, request.params.id)) }),
  )

  app.post<{ Params: { id: string } }>(
    '/telemetry/devices/:id/keys',
    {
      level: 'organization',
      permission: 'telemetry.device.issue_key',
      notImpersonated: true,
      module,
      plane,
      schema: {
        tags,
        summary: 'Issue a key to a device; it is shown once',
        params: Id,
        response: { 201: ok(IssuedKey), ...mutation('not_found') },
      },
    },
    async (request, reply) => {
      shownOnce(request, reply)
      const [issued] = await request.write((tx) => issueDeviceKeys(tx, [request.params.id]))
      return { data: issued }
    },
  )

  app.post<{ Params: { id: string }; Body: Static<typeof Rotation> | undefined }>(
    '/telemetry/devices/:id/keys/rotate',
    {
      level: 'organization',
      permission: 'telemetry.device.issue_key',
      notImpersonated: true,
      module,
      plane,
      schema: {
        tags,
        summary: 'Issue a key in place of the earlier ones, which are good for a day yet or as long as is said',
        params: Id,
        body: Type.Optional(Rotation),
        response: { 201: ok(IssuedKey), ...mutation('not_found') },
      },
    },
    async (request, reply) => {
      shownOnce(request, reply)
      const { grace_seconds = 86_400 } = request.body ?? {}
      return { data: await request.write((tx) => rotateDeviceKey(tx, request.params.id, grace_seconds)) }
    },
  )

  app.delete<{ Params: { id: string; key_id: string } }>(
    '/telemetry/devices/:id/keys/:key_id',
    {
      level: 'organization',
      permission: 'telemetry.device.revoke_key',
      notImpersonated: true,
      module,
      plane,
      schema: {
        tags,
        summary: 'Withdraw a key of a device',
        params: Type.Object({ id: Uuid, key_id: Uuid }),
        response: { 204: Type.Null(), ...mutation('not_found') },
      },
    },
    async (request, reply) => {
      await request.write((tx) => revokeDeviceKey(tx, request.params.id, request.params.key_id))
      return reply.status(204).send()
    },
  )

  app.post<{ Params: { id: string }; Body: Static<typeof ReplacementWanted> | undefined }>(
    '/telemetry/devices/:id/replace',
    {
      level: 'organization',
      permission: 'telemetry.device.replace',
      notImpersonated: true,
      module,
      plane,
      schema: {
        tags,
        summary: 'Replace the hardware of a device',
        description: 'The device keeps its code, series and history. A key for the new hardware is issued, shown once; earlier keys end.',
        params: Id,
        body: Type.Optional(ReplacementWanted),
        response: { 201: ok(Replaced), ...mutation('not_found') },
      },
    },
    async (request, reply) => {
      shownOnce(request, reply)
      return { data: await request.write((tx) => replaceDevice(tx, request.params.id, request.body ?? {})) }
    },
  )

  app.get<{ Params: { id: string } }>(
    '/telemetry/devices/:id/replacements',
    {
      level: 'organization',
      permission: 'telemetry.device.read',
      module,
      plane,
      schema: {
        tags,
        summary: 'List the replacements of a device, the latest first',
        params: Id,
        response: { 200: ok(Type.Array(Replacement)), ...guarded('not_found') },
      },
    },
    async (request) => ({ data: await request.read((tx) => replacementsOf(tx, request.params.id)) }),
  )
}
