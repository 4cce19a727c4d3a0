export { parties, Party } from './party.ts'
