// librdkafka's own broker in a process of its own, which a test may freeze with SIGSTOP.
import { openMockBroker } from '../../workers/kafka.ts'
import { topicDeclarations } from '../../workers/topics.ts'

const { brokers } = await openMockBroker(topicDeclarations.map(({ topic }) => topic))
process.send?.(brokers)
setInterval(() => {}, 60_000)
