import type { Chapter } from '../chapter.ts'

export const objects: Chapter = {
  title: 'What the cluster changed meanwhile',
  proves: 'The node holds just what the cluster wants for it, whatever it missed: what was changed is new, what was deleted is gone.',
  async run(stage) {
    await stage.until('the node has the ConfigMap as it is now, and the Secret no more', async () => {
      const { speedLimit, hasSecret } = await stage.objects.onNode()
      return speedLimit === '30' && !hasSecret
    })
    stage.display.say('the node\'s own API serves speed-limit with 30, and door-code no more.')
  }
}
