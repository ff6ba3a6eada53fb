import type { Chapter } from '../chapter.ts'

export const steady: Chapter = {
  title: 'A good day',
  proves: 'A PUBACK means that the record is on the node\'s disk; milliseconds later the reader has it from the cloud\'s.',
  async run(stage) { await stage.goOn('records flow', 6000, 1000) }
}
