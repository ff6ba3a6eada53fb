import { formatCount } from '../../packages/cli/src/render.ts'
import type { Chapter } from '../chapter.ts'
import type { Stage } from '../stage.ts'

/** Of the backlog, what has arrived when cloudcore is killed. */
const killAt = 0.35

/** How far the cloud log was at a time. */
interface Sample { readonly ms: number, readonly records: number }

export const catchUp: Chapter = {
  title: 'The link is restored, and cloudcore is killed with SIGKILL in the middle of the catch-up',
  proves: 'The backlog moves at full speed beside live traffic; data and watermark are one commit, so nothing is doubled.',
  async run(stage) {
    const { findings, cloud, display } = stage
    findings.backlog = await stage.waiting()
    stage.restoreLink()
    const first = await growth(stage, records => records >= killAt * findings.backlog)
    stage.step('cloudcore is killed')
    await cloud.kill()
    findings.cloudKills++
    findings.waitingAtCloudKill = await stage.waiting()
    findings.arrivedAtCloudKill = first.records
    display.say(`killed with ${formatCount(first.records)} records of it in the cloud; ` +
      `the node has no word yet of ${formatCount(findings.waitingAtCloudKill)}.`)
    stage.step('cloudcore starts again')
    await cloud.start()
    // Live traffic is never quite drained: a fiftieth of a backlog is as good as none.
    const second = await growth(stage, async () => await stage.waiting() < findings.backlog / 50)
    const records = first.records + second.records
    const seconds = (first.ms + second.ms) / 1000
    findings.catchUpPerSecond = records / seconds
    display.say(`caught up: ${formatCount(records)} records in ${seconds.toFixed(1)} s of link.`)
  }
}

/** How much the cloud log grows, and in what time, from the first growth until `done` is true of it. */
async function growth(stage: Stage, done: (records: number) => boolean | Promise<boolean>): Promise<Sample> {
  let first: Sample | undefined
  let begin: Sample | undefined
  return await stage.until('the backlog reaches the cloud', async () => {
    const ms = performance.now()
    const node = await stage.cloudNode()
    if (node === undefined) return undefined
    first ??= { ms, records: node.records }
    if (node.records === first.records) {
      first = { ms, records: node.records }
      return undefined
    }
    begin ??= first
    const grown = { ms: ms - begin.ms, records: node.records - begin.records }
    return await done(grown.records) ? grown : undefined
  })
}
