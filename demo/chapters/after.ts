import type { Chapter } from '../chapter.ts'

export const after: Chapter = {
  title: 'A good day again',
  proves: 'Nothing is left of the outage: the table compares latencies before and after it.',
  async run(stage) {
    // On a busy machine that may never be quite so; the latencies then say it.
    await stage.until('publishers and reader are where they would have been', () => stage.settled, 10_000)
      .catch(() => undefined)
    stage.phase('after')
    await stage.goOn('records flow again', 6000, 1000)
  }
}
