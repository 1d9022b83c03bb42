"""Several models side by side: verdict, report and recommendation."""
