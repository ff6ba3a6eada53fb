import { formatCount } from '../../packages/cli/src/render.ts'
import type { Chapter } from '../chapter.ts'

export const killEdge: Chapter = {
  title: 'edgecore is killed with SIGKILL while offline, and started again',
  proves: 'What was acknowledged had been fsynced: it is all there; publishers repeat only what was not acknowledged.',
  async run(stage) {
    const { findings, edge, display } = stage
    findings.waitingAtEdgeKill = await stage.waiting()
    stage.step('edgecore is killed')
    await edge.kill()
    findings.edgeKills++
    stage.step('edgecore starts again without a link')
    const startedMs = performance.now()
    await edge.start()
    const startMs = performance.now() - startedMs
    findings.waitingAfterEdgeKill = await stage.waiting()
    display.say(`back after ${(startMs / 1000).toFixed(1)} s: ` +
      `${formatCount(findings.waitingAtEdgeKill)} records waited before, ${formatCount(findings.waitingAfterEdgeKill)} after.`)
    await stage.goOn('devices publish after the restart', 5000, 1000)
  }
}
