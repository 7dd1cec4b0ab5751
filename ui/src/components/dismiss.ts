// Closes a popover on Escape and on a press outside of it.

import type { Attachment } from 'svelte/attachments';

/** Attach to the element that holds both the popover and the button that opens it. */
export function dismiss(close: () => void): Attachment<HTMLElement> {
  return (holder) => {
    const press = (event: PointerEvent) => {
      if (event.target instanceof Node && !holder.contains(event.target)) close();
    };
    const key = (event: KeyboardEvent) => {
      if (event.key !== 'Escape') return;
      event.stopPropagation();
      close();
      holder.querySelector<HTMLElement>('[aria-expanded]')?.focus();
    };
    document.addEventListener('pointerdown', press, true);
    holder.addEventListener('keydown', key);
    return () => {
      document.removeEventListener('pointerdown', press, true);
      holder.removeEventListener('keydown', key);
    };
  };
}
