import { v7 } from 'uuid'

/** A UUIDv7: made in the application, sortable by time, so that indexes grow at their right edge. */
export type Uuid = string
export const newId = (): Uuid => v7()
