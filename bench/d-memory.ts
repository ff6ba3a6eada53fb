import { MeasuredSystem } from '../test/harness/system.ts'
import { pause, repeat, type BenchRow } from './bench-row.ts'

type Key = 'edgeIdle' | 'edgeIdleFile' | 'cloudIdle' | 'edgePeak' | 'cloudPeak' | 'edgeMillion' | 'edgeTwoMillion'
  | 'furtherMillion'

const megabyte = 1e6

/** What the daemons hold. */
export const memory: BenchRow<Key> = {
  id: 'd',
  question: 'How much memory do the daemons hold: idle, at full load, and with a million records queued?',
  how: 'RssAnon from /proc (heap and stacks; RssFile, the mapped program and database tables, is reported apart). '
    + 'Idle is 5 s after the link is up; the peak is of samples every 50 ms through 6 s of full load; queued is 3 s '
    + 'after the last of a million records, and of a second million, was taken in with the link down.',
  columns: {
    edgeIdle: { title: 'edgecore idle', unit: 'MB', atMost: 95 },
    edgeIdleFile: { title: 'edgecore idle, RssFile', unit: 'MB' },
    cloudIdle: { title: 'cloudcore idle', unit: 'MB' },
    edgePeak: { title: 'edgecore peak at full load', unit: 'MB', atMost: 200 },
    cloudPeak: { title: 'cloudcore peak at full load', unit: 'MB' },
    edgeMillion: { title: 'edgecore, a million queued', unit: 'MB', atMost: 130 },
    edgeTwoMillion: { title: 'edgecore, two million queued', unit: 'MB' },
    furtherMillion: { title: 'a further million costs', unit: 'MB' }
  },
  measure: async context => await repeat(context, async () => {
    await using system = await MeasuredSystem.start({ proxy: true })
    await pause(5000)
    const idle = system.usage()
    const peak = { edge: 0, cloud: 0 }
    const sampling = setInterval(() => {
      const { edge, cloud } = system.usage()
      peak.edge = Math.max(peak.edge, edge.rssAnonBytes)
      peak.cloud = Math.max(peak.cloud, cloud.rssAnonBytes)
    }, 50)
    try {
      await (await system.load({ seconds: 6 })).result
    } finally {
      clearInterval(sampling)
    }
    await system.drained()
    // A start without what the load left behind.
    await system.edge.stop()
    await system.edge.start()
    await system.linked()
    system.proxy!.cut()
    const queued: number[] = []
    for (const firstDevice of [100, 200]) {
      await (await system.load({ count: 1_000_000, firstDevice })).result
      await pause(3000)
      queued.push(system.usage().edge.rssAnonBytes)
    }
    const mb = (bytes: number): number => Math.round(bytes / megabyte)
    return {
      values: {
        edgeIdle: mb(idle.edge.rssAnonBytes),
        edgeIdleFile: mb(idle.edge.rssFileBytes),
        cloudIdle: mb(idle.cloud.rssAnonBytes),
        edgePeak: mb(peak.edge),
        cloudPeak: mb(peak.cloud),
        edgeMillion: mb(queued[0]!),
        edgeTwoMillion: mb(queued[1]!),
        furtherMillion: mb(queued[1]! - queued[0]!)
      }
    }
  })
}
