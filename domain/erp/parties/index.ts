export { Party, parties } from './party.ts'
