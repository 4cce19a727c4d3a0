/** What workers need of a logger: pino's shape. */
export interface WorkerLog {
  info(data: object, message: string): void
  warn(data: object, message: string): void
  error(data: object, message: string): void
}
