export * from './seals.ts'
export * from './trail.ts'
