export * from './anchor.ts'
export * from './seals.ts'
export * from './trail.ts'
